"""What is exported: a model file, and the samples that the exported files are compared on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_segmentation.errors import DataError
from unet_segmentation.models.model_file import load_model, weights_sha256
from unet_segmentation.models.spec import ModelSpec
from unet_segmentation.parameters import ExportParameters

if TYPE_CHECKING:
    import pandas as pd
    from torch.export import ExportedProgram

    from unet_segmentation.data.store.packed_arrays import PackedSamples
    from unet_segmentation.inference.backends.base import Image

CALIBRATION_SIDE = 1024  # pixels of an image, at most, that the ranges of 8 bits are taken from


@dataclass(frozen=True)
class ExportSource:
    """A model to be exported."""

    problem: str
    file: str
    weights_sha256: str
    run_id: str | None  # of the MLflow run that made it, where it is known
    dtype: str  # of the pixels that the exported files take
    spec: ModelSpec

    @classmethod
    def from_file(cls, file: Path, *, problem: str, run_id: str | None, dtype: str) -> ExportSource:
        """Read a model file; its weights are loaded once, so that a file that is none of this project is refused."""
        _, info = load_model(file)
        return cls(problem, str(file.absolute()), weights_sha256(file), run_id, dtype, info.spec)

    def trace(self) -> ExportedProgram:
        """Trace the network into a torch.export program with free sizes; raise ConfigurationError if it has none."""
        from unet_segmentation.inference.backends.torch_export import export_program

        network, _ = load_model(Path(self.file))
        return export_program(network, self.spec, self.dtype)


@dataclass(frozen=True)
class Quantization:
    """An ONNX file in 8 bits: None where it was not asked for, and from how many images its ranges are."""

    file: str | None = None
    images: int = 0


def find_model_file(
    best: Path, run_id: str | None, problem: str, export: ExportParameters, cache: Path
) -> tuple[Path, str | None]:
    """Find the model that `export.model` names, and the run it is of: by file, as the champion, or by its run."""
    if export.model is None:
        return best, run_id
    if export.model.endswith(".safetensors"):
        return Path(export.model), None
    from unet_segmentation.tracking.model_download import named_model

    logged = named_model(export.model, problem, cache, asked_by="export.model")
    return logged.file, logged.run_id


def calibration_batches(
    source: ExportSource, packed: PackedSamples, train_ids: list[str], count: int
) -> tuple[list[str], Iterator[Image]]:
    """Choose images of the training split for the ranges of 8 bits, and yield each as a batch."""
    from unet_segmentation.inference.sliding_window import padded, round_up_to_multiple

    chosen = train_ids[:: max(1, len(train_ids) // count)][:count]

    def batches() -> Iterator[Any]:
        for sample_id in chosen:
            image = packed.image(sample_id, slice(CALIBRATION_SIDE), slice(CALIBRATION_SIDE))
            height, width = (round_up_to_multiple(side, source.spec.multiple) for side in image.shape[:2])
            yield padded(image, (height, width))[None].astype(source.dtype)

    return chosen, batches()


def labeled_ids(samples: pd.DataFrame, split: str) -> list[str]:
    """Return the ids of a split's labeled samples; raise DataError where it has none."""
    chosen = (samples["split"] == split) & (samples["masks"].map(len) > 0)
    names: list[str] = samples.loc[chosen, "sample_id"].astype(str).tolist()
    if not names:
        raise DataError(f"export.split: the {split} split has no labeled sample to hold the files against.")
    return names
