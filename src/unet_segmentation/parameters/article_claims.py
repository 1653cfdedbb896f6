"""Tests of an article's claims: what is compared, and how small the networks and the data are."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.parameters.model import ModelParameters

UpsamplingMode = Literal["bilinear", "nearest", "transposed", "transposed_k4", "subpixel"]
Side = Annotated[int, Field(ge=32, multiple_of=32)]
SMALL_PAPER = ModelParameters(architecture="unet_original", base_channels=8, encoder_depth=3)
SMALL_UNET = ModelParameters(encoder_depth=3, decoder_channels=[32, 16, 16])
SMALL = {"unet_original": SMALL_PAPER, "unet_resnet18": SMALL_UNET}
FULL_SIZE = {
    "unet_original_whole": ModelParameters(architecture="unet_original"),
    "unet_resnet18_whole": ModelParameters(),
}


class PresetParameters(StrictModel):
    """How long everything is trained, and how often.

    Attributes:
        seeds: of the upsampling experiment.
        steps: of each of its training runs, rounded up to whole epochs.
        encoder_seeds: of the encoder experiment.
        encoder_steps: of each of its training runs, rounded up to whole epochs.
        metric_epochs: of each training run of the metric experiment.
        patch_size: of training on the problem's data, all else as in `training:`; null: that, too.
        batch_size: of training on the problem's data; null: as in `training:`.
    """

    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1], min_length=1)
    steps: int = Field(default=96, ge=1)
    encoder_seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    encoder_steps: int = Field(default=144, ge=1)
    metric_epochs: int = Field(default=6, ge=1)
    patch_size: int | None = Field(default=64, ge=1)
    batch_size: int | None = Field(default=4, ge=1)


class UpsamplingBenchmarkParameters(StrictModel):
    """The upsampling modes of a decoder, on the problem's own data.

    Attributes:
        models: by a name of your own; each is trained with every mode.
        cost_only_models: further ones, whose costs are only counted: the models at their full size.
        modes: what `model.upsampling` is set to.
        reference: the mode that the others are compared with.
        images: number of images of the evaluated split whose logits are measured.
        speed_size: side of the images that speeds and costs are measured with, in pixels.
        speed_seconds: of each measurement of speed.
    """

    models: dict[str, ModelParameters] = Field(default=SMALL, min_length=1)
    cost_only_models: dict[str, ModelParameters] = FULL_SIZE
    modes: list[UpsamplingMode] = Field(
        default=["bilinear", "nearest", "transposed", "transposed_k4", "subpixel"], min_length=1
    )
    reference: UpsamplingMode = "bilinear"
    images: int = Field(default=8, ge=1)
    speed_size: Side = 128
    speed_seconds: float = Field(default=0.5, ge=0)

    @model_validator(mode="after")
    def _reference_is_there(self) -> Self:
        if self.reference not in self.modes:
            raise ValueError(f"reference: {self.reference!r} is none of the modes")
        if len(set(self.modes)) < len(self.modes):
            raise ValueError("modes: one is named twice")
        if both := sorted(self.models.keys() & self.cost_only_models.keys()):
            raise ValueError(f"cost_only_models: {', '.join(both)} is in models, too")
        return self


class EncoderBenchmarkParameters(StrictModel):
    """Costs and scores of encoders, all in smp's U-Net with its own decoder.

    Attributes:
        names: as `model.encoder` takes them.
        size: side of the images, in pixels.
        batch_size: images of a step that is timed.
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


class MetricBenchmarkParameters(StrictModel):
    """Problems of decreasing foreground share, drawn by the generator of `cells`.

    Attributes:
        shares: of the pixels that are foreground.
        size: side of the images, in pixels.
        training_images: of each problem.
        validation_images: of each problem.
        test_images: of each problem; they are scored.
        batch_size: of each training run.
        model: that is trained.
        seed: of the images, of the training and of the random prediction.
    """

    shares: list[Annotated[float, Field(gt=0, le=0.5)]] = Field(default=[0.5, 0.2, 0.05, 0.02, 0.005], min_length=1)
    size: Side = 128
    training_images: int = Field(default=64, ge=2)
    validation_images: int = Field(default=16, ge=1)
    test_images: int = Field(default=100, ge=1)
    batch_size: int = Field(default=4, ge=1)
    model: ModelParameters = SMALL_PAPER
    seed: int = Field(default=0, ge=0)


FORMS = {
    "short": PresetParameters(),
    "full": PresetParameters(
        seeds=[0, 1, 2], steps=3000, encoder_seeds=[0, 1, 2], encoder_steps=3000, metric_epochs=60, patch_size=None,
        batch_size=None,
    ),
}  # fmt: skip


class ArticleClaimsParameters(StrictModel):
    """All experiments; only the pipeline `article` reads this.

    Attributes:
        preset: name of one of the presets.
        presets: how long everything is trained, and how often.
        upsampling: the upsampling experiment.
        encoders: the encoder experiment.
        metrics: the metric experiment.
    """

    preset: str = "short"
    presets: dict[str, PresetParameters] = FORMS
    upsampling: UpsamplingBenchmarkParameters = UpsamplingBenchmarkParameters()
    encoders: EncoderBenchmarkParameters = EncoderBenchmarkParameters()
    metrics: MetricBenchmarkParameters = MetricBenchmarkParameters()

    @model_validator(mode="after")
    def _form_is_there(self) -> Self:
        if self.preset not in self.presets:
            raise ValueError(f"preset: {self.preset!r} is none of {', '.join(self.presets)}")
        return self

    @property
    def chosen_preset(self) -> PresetParameters:
        """Return the preset that is chosen."""
        return self.presets[self.preset]
