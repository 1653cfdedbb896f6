"""The loss: built from the registered losses, each with its weight and its settings."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import create_model, model_validator

from unet_segmentation.parameters.base import StrictModel
from unet_segmentation.utils.registry import Registry


class _LossSection(StrictModel):
    """A weighted sum of losses, in float32, ignored pixels masked in each; formulas: docs/reference/losses.md.

    Every file of `training/losses` that registers a loss adds its weight, under the loss's name, and its settings,
    under `<loss>_<setting>`.

    Attributes:
        class_weights: `none`, `auto` (from the shares of the training split) or a list, for the cross-entropy, the
            focal loss and OHEM.
    """

    class_weights: Literal["none", "auto"] | list[float] = "none"

    @property
    def weights(self) -> dict[str, float]:
        """Return the losses with a weight above 0, by name."""
        return {name: weight for name in _losses().names() if (weight := getattr(self, name)) > 0}

    def settings(self, name: str) -> StrictModel:
        """Return the settings of a loss, of its class `Settings`."""
        settings: type[StrictModel] = _losses()[name].Settings
        return settings(**{field: getattr(self, _key(name, field)) for field in settings.model_fields})

    @model_validator(mode="after")
    def _any_weight(self) -> Self:
        if not self.weights:
            raise ValueError("at least one of the losses (cross_entropy, dice, ...) must be above 0")
        return self


def _losses() -> Registry[Any]:
    """Return the registered losses. Their package lies above this one, so it is looked up by name, like a plug-in."""
    registry: Registry[Any] = import_module("unet_segmentation.training.losses.base").LOSSES
    return registry


def _key(loss: str, field: str) -> str:
    return loss if field == "weight" else f"{loss}_{field}"


def _loss_fields() -> dict[str, Any]:
    """Return the fields of the section: type and default of every setting of every registered loss."""
    return {
        _key(name, field): (information.annotation, information)
        for name, loss in _losses()
        for field, information in loss.Settings.model_fields.items()
    }


if TYPE_CHECKING:

    class LossParameters(_LossSection):
        """The section `training.loss`; its keys are known at run time."""

        def __init__(self, **values: object) -> None: ...

else:
    LossParameters = create_model(
        "LossParameters", __base__=_LossSection, __doc__=_LossSection.__doc__, __module__=__name__, **_loss_fields()
    )
