"""What is predicted, by which model, and what is written of it. Only the pipeline `inference` reads this."""

from typing import Any

from pydantic import Field, field_validator

from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.parameters.source import refuse_secrets


class InferenceParameters(StrictModel):
    """Images without masks, and what becomes of them.

    Attributes:
        source: a folder, a file, one page of a file (`volume.tif#3`), a glob, or a URL of a file or folder.
        storage_options: for a URL, what fsspec wants to know (an endpoint, say); empty: those of `source`. No secrets.
        model: `champion` of MLflow's registry; an MLflow run (its id, the beginning of one, or its name); a model file;
            `cv-ensemble`, the models of the last cross-validation; several: their probabilities are averaged.
            null: the champion, else the newest finished run with a model, else the model in `data/`.
        output: the folder of the results; null: one below `data/07_model_output/<problem>/inference`.
        backend: what computes, see `inference/backends`; `auto`: by a rule for the device, if its masks agree with
            those of the network in float32.
        overlay: write a picture of each image with the classes in color.
        probabilities: write the probability of every class (`.npz`, float16; rasters: a GeoTIFF).
        polygons: write the regions of each image as GeoJSON, and of all images but rasters as COCO.
        overwrite: predict finished images again.
    """

    source: str | None = None
    storage_options: dict[str, Any] = Field(default_factory=dict)
    model: list[str] = Field(default_factory=list)
    output: str | None = None
    backend: str = "auto"
    overlay: bool = True
    probabilities: bool = False
    polygons: bool = True
    overwrite: bool = False

    @field_validator("storage_options")
    @classmethod
    def _without_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        refuse_secrets(value)
        return value

    @field_validator("model", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        """Accept one name as a list: Kedro's --params cannot hold one."""
        if value is None:
            return []
        return [str(value)] if isinstance(value, str | int) else value
