"""The article's claims, measured: what is compared, and how small the networks and the data are."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.parameters.training import NetworkParameters

WayUp = Literal["bilinear", "nearest", "transposed", "transposed4", "subpixel"]
Side = Annotated[int, Field(ge=32, multiple_of=32)]
SMALL_PAPER = NetworkParameters(architecture="paper_unet", width=8, encoder_depth=3)
SMALL_UNET = NetworkParameters(encoder_depth=3, decoder_channels=[32, 16, 16])
SMALL = {"paper_unet": SMALL_PAPER, "unet_resnet18": SMALL_UNET}
WHOLE = {"paper_unet_whole": NetworkParameters(architecture="paper_unet"), "unet_resnet18_whole": NetworkParameters()}


class FormParameters(StrictModel):
    """How long everything is trained, and how often.

    Attributes:
        seeds: of the trainings of the laboratory.
        steps: of each of them, made up to whole epochs.
        encoder_seeds: of the trainings of encoders.
        encoder_steps: likewise.
        metric_epochs: of the trainings of the metric experiment.
        patch_size: of the trainings on the problem's data, all else as `training:` says; null: that, too.
        batch_size: likewise.
    """

    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1], min_length=1)
    steps: int = Field(default=96, ge=1)
    encoder_seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    encoder_steps: int = Field(default=144, ge=1)
    metric_epochs: int = Field(default=6, ge=1)
    patch_size: int | None = Field(default=64, ge=1)
    batch_size: int | None = Field(default=4, ge=1)


class UpsamplingLaboratoryParameters(StrictModel):
    """The ways up of a decoder, on the problem's own data.

    Attributes:
        networks: by a name of your own; each is trained with every way up.
        counted: further ones, whose costs are counted only: the networks as they are, before they were made small.
        ways: what `network.upsampling` is set to.
        reference: the way that the others are compared with.
        images: of the evaluated split, so many first ones, whose logits are looked at.
        speed_size: side of the images that speeds and costs are measured with, in pixels.
        speed_seconds: of each measurement of speed.
    """

    networks: dict[str, NetworkParameters] = Field(default=SMALL, min_length=1)
    counted: dict[str, NetworkParameters] = WHOLE
    ways: list[WayUp] = Field(default=["bilinear", "nearest", "transposed", "transposed4", "subpixel"], min_length=1)
    reference: WayUp = "bilinear"
    images: int = Field(default=8, ge=1)
    speed_size: Side = 128
    speed_seconds: float = Field(default=0.5, ge=0)

    @model_validator(mode="after")
    def _reference_is_there(self) -> Self:
        if self.reference not in self.ways:
            raise ValueError(f"reference: {self.reference!r} is none of the ways")
        if len(set(self.ways)) < len(self.ways):
            raise ValueError("ways: one is named twice")
        if both := sorted(self.networks.keys() & self.counted.keys()):
            raise ValueError(f"counted: {', '.join(both)} stands in networks, too")
        return self


class EncoderTableParameters(StrictModel):
    """What encoders cost and what they reach, all in one U-Net of smp with its own decoder.

    Attributes:
        names: as `network.encoder` takes them.
        size: side of the images, in pixels.
        batch_size: images of a step whose speed is measured.
        seconds: of each measurement of speed.
    """

    names: list[str] = Field(
        default=[
            "vgg16_bn", "resnet18", "resnet34", "resnet50", "efficientnet-b0", "efficientnet-b3", "tu-convnext_tiny",
            "tu-mobilenetv4_conv_small",
        ],
        min_length=1,
    )  # fmt: skip
    size: Side = 128
    batch_size: int = Field(default=4, ge=2)
    seconds: float = Field(default=0.5, ge=0)


class MetricExperimentParameters(StrictModel):
    """Problems of falling foreground share, drawn by the generator of `cells`.

    Attributes:
        shares: of the pixels that are foreground.
        size: side of the images, in pixels.
        training_images: of each problem.
        validation_images: likewise.
        test_images: likewise; on these all scores are taken.
        batch_size: of each training.
        network: that is trained.
        seed: of the drawing, of the training and of the random prediction.
    """

    shares: list[Annotated[float, Field(gt=0, le=0.5)]] = Field(default=[0.5, 0.2, 0.05, 0.02, 0.005], min_length=1)
    size: Side = 128
    training_images: int = Field(default=64, ge=2)
    validation_images: int = Field(default=16, ge=1)
    test_images: int = Field(default=100, ge=1)
    batch_size: int = Field(default=4, ge=1)
    network: NetworkParameters = SMALL_PAPER
    seed: int = Field(default=0, ge=0)


FORMS = {
    "short": FormParameters(),
    "full": FormParameters(
        seeds=[0, 1, 2], steps=3000, encoder_seeds=[0, 1, 2], encoder_steps=3000, metric_epochs=60, patch_size=None,
        batch_size=None,
    ),
}  # fmt: skip


class ArticleParameters(StrictModel):
    """All experiments; only the pipeline `article` reads this.

    Attributes:
        form: name of one of the forms.
        forms: how long everything is trained, and how often.
        upsampling: the laboratory.
        encoders: the table.
        metrics: the experiment.
    """

    form: str = "short"
    forms: dict[str, FormParameters] = FORMS
    upsampling: UpsamplingLaboratoryParameters = UpsamplingLaboratoryParameters()
    encoders: EncoderTableParameters = EncoderTableParameters()
    metrics: MetricExperimentParameters = MetricExperimentParameters()

    @model_validator(mode="after")
    def _form_is_there(self) -> Self:
        if self.form not in self.forms:
            raise ValueError(f"form: {self.form!r} is none of {', '.join(self.forms)}")
        return self

    @property
    def effort(self) -> FormParameters:
        """The form that was chosen."""
        return self.forms[self.form]
