"""All parameters of a problem together, refused with the nearest name where a key is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.article_claims import ArticleClaimsParameters
from unet_segmentation.parameters.augmentation import AugmentationParameters
from unet_segmentation.parameters.base import StrictModel
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
from unet_segmentation.parameters.search import SearchParameters
from unet_segmentation.parameters.source import SourceParameters
from unet_segmentation.parameters.sweep import SweepParameters
from unet_segmentation.parameters.training import TrainingParameters


class Parameters(StrictModel):
    """Everything a problem's `parameters.yml`, `conf/base` and `--params` may say."""

    problem: str
    seed: int = Field(default=0, ge=0)
    source: SourceParameters
    classes: list[str] = Field(min_length=2, max_length=255)
    images: ImageParameters = ImageParameters()
    masks: MaskParameters = MaskParameters()
    inspection: InspectionParameters = InspectionParameters()
    split: SplitParameters = SplitParameters()
    augmentation: AugmentationParameters = AugmentationParameters()
    model: ModelParameters = ModelParameters()
    training: TrainingParameters = TrainingParameters()
    predictor: PredictorParameters = PredictorParameters()
    evaluation: EvaluationParameters = EvaluationParameters()
    bootstrap: BootstrapParameters = BootstrapParameters()
    cross_validation: CrossValidationParameters = CrossValidationParameters()
    release: ReleaseParameters = ReleaseParameters()
    export: ExportParameters = ExportParameters()
    inference: InferenceParameters = InferenceParameters()
    article_claims: ArticleClaimsParameters = ArticleClaimsParameters()
    sweep: SweepParameters = SweepParameters()
    search: SearchParameters = SearchParameters()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name occurs twice")
        declared = [("masks.values", name) for name in self.masks.values.values()]
        declared += [("masks.colors", name) for name in self.masks.colors]
        declared += [("masks.labels", name) for name in self.masks.labels.values()]
        if self.masks.instance_class is not None:
            declared.append(("masks.instance_class", self.masks.instance_class))
        for key, name in declared:
            if name not in self.classes:
                raise ValueError(f"{key}: {name!r} is not one of the classes {', '.join(self.classes)}")
        if self.masks.encoding == "threshold" and len(self.classes) != 2:
            raise ValueError("masks.encoding threshold gives two classes; classes names another number")
        if self.masks.encoding == "instances" and self.masks.instance_class is None and len(self.classes) != 2:
            raise ValueError("masks.instance_class: say which of the classes the instances are")
        weights = self.training.loss.class_weights
        if isinstance(weights, list) and len(weights) != len(self.classes):
            raise ValueError("training.loss.class_weights: give one weight per class")
        for name in self.training.sampling.classes if self.training.sampling.classes != "auto" else ():
            if name not in self.classes:
                raise ValueError(f"training.sampling.classes: {name!r} is not one of the classes")
        return self


def validate_parameters(parameters: Mapping[str, object]) -> Parameters:
    """Check all parameters at once.

    Args:
        parameters: what the configuration loader merged.

    Raises:
        ConfigurationError: names every key that is wrong and, for an unknown one, the nearest that exists.
    """
    if "source" not in parameters:
        raise ConfigurationError(
            f"conf/{parameters.get('problem', '?')}/parameters.yml declares no source. "
            "Copy conf/template to start a problem of your own, or choose another with --env."
        )
    try:
        return Parameters.model_validate(dict(parameters))
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _explain(error))
        raise ConfigurationError(f"The parameters are not valid:\n{lines}") from None


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"]]
        key = ".".join(path) or "parameters"
        if problem["type"] == "extra_forbidden":
            keys = _keys_at(path[:-1])
            near = difflib.get_close_matches(path[-1], keys, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(keys))}"
            yield f"{key}: there is no such parameter; {hint}"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            value = "" if problem["type"] in {"value_error", "missing"} else f" (given: {problem['input']!r})"
            yield f"{key}: {message[0].lower()}{message[1:]}{value}"


def _keys_at(path: list[str]) -> list[str]:
    model: type[BaseModel] = Parameters
    for part in path:
        if part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - annotations are of any type
    """Find the model inside ``Model``, ``Model | None`` or ``list[Model]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _model_in(argument))), None)
