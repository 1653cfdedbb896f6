"""The catalog's dataset types: files that are written atomically, each with a preview for Kedro-Viz."""

from unet_segmentation.datasets.evaluation_tables import EvaluationTablesDataset
from unet_segmentation.datasets.files import (
    CSVDataset,
    FileDataset,
    HTMLDataset,
    ImageDataset,
    JSONDataset,
    MarkdownDataset,
    OptionalFileDataset,
    OptionalJSONDataset,
    ParquetDataset,
    PlotlyDataset,
    WeightsDataset,
    YAMLDataset,
)
from unet_segmentation.datasets.folders import (
    FolderDataset,
    MaskFolderDataset,
    PackedSamplesDataset,
    WorkingFolderDataset,
)
from unet_segmentation.datasets.model import ModelDataset

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
    "WeightsDataset",
    "WorkingFolderDataset",
    "YAMLDataset",
]
