"""The catalog's dataset types: files that are written atomically, each with a preview for Kedro-Viz."""

from unet_segmentation.datasets.files import (
    CSVDataset,
    FileDataset,
    HTMLDataset,
    ImageDataset,
    JSONDataset,
    MarkdownDataset,
    ModelDataset,
    OptionalFileDataset,
    OptionalJSONDataset,
    ParquetDataset,
    PlotlyDataset,
    ProposedPlanDataset,
    WeightsDataset,
)
from unet_segmentation.datasets.folders import (
    EvaluationTablesDataset,
    FolderDataset,
    MaskFolderDataset,
    PackedSamplesDataset,
    WorkingFolderDataset,
)

__all__ = [
    "CSVDataset",
    "EvaluationTablesDataset",
    "FileDataset",
    "FolderDataset",
    "HTMLDataset",
    "ImageDataset",
    "JSONDataset",
    "MarkdownDataset",
    "MaskFolderDataset",
    "ModelDataset",
    "OptionalFileDataset",
    "OptionalJSONDataset",
    "PackedSamplesDataset",
    "ParquetDataset",
    "PlotlyDataset",
    "ProposedPlanDataset",
    "WeightsDataset",
    "WorkingFolderDataset",
]
