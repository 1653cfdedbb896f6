"""What leaves the project as files that other programs run, and what these must meet."""

from pydantic import Field

from unet_segmentation.parameters.base import StrictModel


class ExportParameters(StrictModel):
    """What the pipeline `export` makes, and what its gate asks. Only that pipeline reads this.

    Attributes:
        model: the network: `champion` of MLflow's registry, an MLflow run (its id, the beginning of one, or its name),
            or a safetensors file. None: the one that lies in `data/`.
        output: a folder that gets a copy of what is published; replaced as a whole.
        int8: also an ONNX file in whole numbers of 8 bits, for CPUs: several times as fast, at a loss that is measured.
        calibration_images: of the training split, from which the ranges of the 8 bits are taken.
        split: on which the files are compared with the model.
        max_probability_difference: the largest difference that a probability may have.
        min_agreement: the least share of the pixels that must get the network's class.
        max_score_difference: the largest difference that a score may have.
        max_int8_score_drop: how much worse the 8 bits may be, in the mean Dice and in the mean IoU.
    """

    model: str | None = None
    output: str | None = None
    int8: bool = False
    calibration_images: int = Field(default=32, ge=1, le=1000)
    split: str = Field(default="test", pattern="^(test|validation|train)$")
    max_probability_difference: float = Field(default=0.001, gt=0, lt=1)
    min_agreement: float = Field(default=0.999, gt=0, le=1)
    max_score_difference: float = Field(default=0.001, ge=0, lt=1)
    max_int8_score_drop: float = Field(default=0.01, ge=0, lt=1)
