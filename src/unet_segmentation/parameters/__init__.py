"""Typed parameters: one pydantic model per pipeline, and ``Parameters`` over all of them.

Nothing here imports a heavy library: Kedro builds these models before the first node runs, at every command.
"""

from unet_segmentation.parameters.article import ArticleParameters
from unet_segmentation.parameters.augmentation import AugmentationParameters, TransformParameters
from unet_segmentation.parameters.comparison import ComparisonParameters
from unet_segmentation.parameters.cross_validation import CrossValidationParameters
from unet_segmentation.parameters.evaluation import EvaluationParameters, InferenceParameters
from unet_segmentation.parameters.export import ExportParameters
from unet_segmentation.parameters.prediction import PredictionParameters
from unet_segmentation.parameters.preparation import (
    BlockParameters,
    ImageParameters,
    InspectionParameters,
    MaskParameters,
    SplitParameters,
)
from unet_segmentation.parameters.release import ReleaseParameters
from unet_segmentation.parameters.search import RangeParameters, SearchParameters
from unet_segmentation.parameters.source import (
    ArchiveParameters,
    GeneratorParameters,
    SourceParameters,
    TableParameters,
)
from unet_segmentation.parameters.training import (
    CheckpointParameters,
    EarlyStoppingParameters,
    LossParameters,
    NetworkParameters,
    OptimizerParameters,
    SamplingParameters,
    ScheduleParameters,
    TrainingParameters,
)
from unet_segmentation.parameters.validation import Parameters, validate_parameters

__all__ = [
    "ArchiveParameters",
    "ArticleParameters",
    "AugmentationParameters",
    "BlockParameters",
    "CheckpointParameters",
    "ComparisonParameters",
    "CrossValidationParameters",
    "EarlyStoppingParameters",
    "EvaluationParameters",
    "ExportParameters",
    "GeneratorParameters",
    "ImageParameters",
    "InferenceParameters",
    "InspectionParameters",
    "LossParameters",
    "MaskParameters",
    "NetworkParameters",
    "OptimizerParameters",
    "Parameters",
    "PredictionParameters",
    "RangeParameters",
    "ReleaseParameters",
    "SamplingParameters",
    "ScheduleParameters",
    "SearchParameters",
    "SourceParameters",
    "SplitParameters",
    "TableParameters",
    "TrainingParameters",
    "TransformParameters",
    "validate_parameters",
]
