"""Typed parameters: one pydantic model per pipeline, and ``Parameters`` over all of them.

Nothing here imports a heavy library: Kedro builds these models before the first node runs, at every command.
"""

from unet_segmentation.parameters.article_claims import ArticleClaimsParameters
from unet_segmentation.parameters.augmentation import AugmentationParameters, AugmentationRecipe, TransformParameters
from unet_segmentation.parameters.bootstrap import BootstrapParameters
from unet_segmentation.parameters.cross_validation import CrossValidationParameters
from unet_segmentation.parameters.data import (
    ImageParameters,
    InspectionParameters,
    MaskParameters,
    SplitParameters,
)
from unet_segmentation.parameters.evaluation import EvaluationParameters
from unet_segmentation.parameters.export import ExportParameters
from unet_segmentation.parameters.inference import InferenceParameters
from unet_segmentation.parameters.model import ModelParameters
from unet_segmentation.parameters.predictor import PredictorParameters
from unet_segmentation.parameters.release import ReleaseParameters
from unet_segmentation.parameters.search import RangeParameters, SearchParameters
from unet_segmentation.parameters.source import (
    GeneratorParameters,
    SourceParameters,
)
from unet_segmentation.parameters.sweep import SweepParameters
from unet_segmentation.parameters.training import (
    OptimizerParameters,
    SamplingParameters,
    ScheduleParameters,
    TrainingParameters,
)
from unet_segmentation.parameters.validation import Parameters, validate_parameters

__all__ = [
    "ArticleClaimsParameters",
    "AugmentationParameters",
    "AugmentationRecipe",
    "BootstrapParameters",
    "CrossValidationParameters",
    "EvaluationParameters",
    "ExportParameters",
    "GeneratorParameters",
    "ImageParameters",
    "InferenceParameters",
    "InspectionParameters",
    "MaskParameters",
    "ModelParameters",
    "OptimizerParameters",
    "Parameters",
    "PredictorParameters",
    "RangeParameters",
    "ReleaseParameters",
    "SamplingParameters",
    "ScheduleParameters",
    "SearchParameters",
    "SourceParameters",
    "SplitParameters",
    "SweepParameters",
    "TrainingParameters",
    "TransformParameters",
    "validate_parameters",
]
