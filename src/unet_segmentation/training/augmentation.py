"""Augmentation: parameters become a recipe, the recipe is applied with randomness keyed per sample."""

from __future__ import annotations

import inspect
import os
import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for a newer version when imported

import albumentations as A
import cv2

from unet_segmentation.data.store.packed_arrays import Image, Mask
from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters.augmentation import (
    RECIPE_VERSION,
    AugmentationParameters,
    AugmentationRecipe,
    TransformParameters,
)
from unet_segmentation.utils.did_you_mean import unknown_name_error
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

TRIAL_SIZE = 64
OPENCV_CHANNELS = 4  # at most, that it turns
TURNS: dict[str, Callable[[Any], Any]] = {  # by albumentations' names for the elements of the group
    "e": lambda image: image,
    "r90": lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
    "r180": lambda image: cv2.flip(image, -1),
    "r270": lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    "v": lambda image: cv2.flip(image, 0),
    "h": lambda image: cv2.flip(image, 1),
    "t": cv2.transpose,
    "hvt": lambda image: cv2.flip(cv2.transpose(image), -1),
}

cv2.setNumThreads(0)  # one image is too little work to share; torch has the cores


def compose_recipe(augmentation: AugmentationParameters, channels: int, dtype: str = "uint8") -> AugmentationRecipe:
    """Turn parameters into a recipe and try every transform on an image like those of the training split.

    Raises:
        ConfigurationError: a transform or an argument that does not exist, a wrong value, or a transform that cannot
            take such images.
    """
    transforms = _resolve_all(augmentation.transforms, "augmentation.transforms")
    for number, transform in enumerate(transforms):
        _check_applicable(transform, f"augmentation.transforms[{number}]", channels, dtype)
    return AugmentationRecipe(library=f"albumentations {A.__version__}", transforms=tuple(transforms))


class Augmenter:
    """Applies a recipe; what it draws depends on the generator of each call, and on nothing else."""

    def __init__(self, recipe: AugmentationRecipe) -> None:
        if recipe.version != RECIPE_VERSION:
            raise ConfigurationError(
                "The augmentation recipe was written by another version: run the augmentation pipeline again"
            )
        transforms = [_build(transform) for transform in recipe.transforms]
        self.compose = A.Compose(transforms, strict=True, is_check_shapes=False) if transforms else None
        if self.compose is not None:
            self.compose.strict = False  # each call would look again for what strict has refused by now

    def __call__(self, image: Image, mask: Mask, generator: np.random.Generator) -> tuple[Image, Mask]:
        """Return the augmented image (height, width, channels) and mask (height, width), of the same dtypes."""
        if self.compose is None:
            return image, mask
        # set_random_seed would give every transform the same first draw, and so make their chances equal
        self.compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        result = self.compose(image=image, mask=mask)
        return result["image"].reshape(*result["image"].shape[:2], image.shape[2]), result["mask"]


class _D4(A.D4):
    """The same pixels by OpenCV, which moves whole pixels: NumPy copies a turned color image value by value."""

    def apply(self, img: Image, group_element: str, **params: Any) -> Image:  # noqa: ANN401
        if img.ndim == 3 and img.shape[2] > OPENCV_CHANNELS:
            turned: Image = super().apply(img, group_element, **params)
            return turned
        turned = TURNS[group_element](img)
        return turned.reshape(*turned.shape[:2], *img.shape[2:])  # OpenCV drops a single channel


def _resolve_all(transforms: Sequence[TransformParameters], key: str) -> list[TransformParameters]:
    return [_resolve(transform, f"{key}[{number}]") for number, transform in enumerate(transforms)]


def _resolve(transform: TransformParameters, key: str) -> TransformParameters:
    """Check names and values of one transform (and of those inside it) and write in what fills masks."""
    transforms = _usable_transforms()
    if transform.name not in transforms:
        raise unknown_name_error(f"{key}.name", transform.name, transforms)
    kind, arguments = transforms[transform.name], dict(transform.parameters)
    names = [name for name in inspect.signature(kind).parameters if name != "self"]
    for argument in arguments:
        if argument not in names:
            raise unknown_name_error(f"{key}.parameters of {transform.name}", argument, names)
    if issubclass(kind, A.BaseCompose):
        arguments["transforms"] = _resolve_inner(arguments.get("transforms"), key)
    if "fill_mask" in names:
        arguments |= _mask_fill(kind, arguments, key)
    if arguments.get("mask_interpolation", 0) != cv2.INTER_NEAREST:
        raise ConfigurationError(f"{key}.parameters: mask_interpolation must stay 0 (nearest): masks hold class ids")
    resolved = TransformParameters(name=transform.name, parameters=arguments)
    try:
        _build(resolved)
    except (ValueError, TypeError) as error:
        message = str(error).split("\n    For further information")[0]
        raise ConfigurationError(f"{key}: {transform.name} does not take these parameters: {message}") from error
    return resolved


def _build(transform: TransformParameters) -> Any:  # noqa: ANN401 - albumentations' classes
    arguments = dict(transform.parameters)
    if "transforms" in arguments:
        inner = [TransformParameters.model_validate(parameters) for parameters in arguments["transforms"]]
        arguments["transforms"] = [_build(each) for each in inner]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice only: names are checked, and strict turns mistakes into errors
        kind = _D4 if transform.name == "D4" else getattr(A, transform.name)
        return kind(**arguments)


def _usable_transforms() -> dict[str, type]:
    abstract = {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "BaseCompose"}
    unusable = {"Lambda", "Compose", "ReplayCompose", "ToTensorV2", "ToTensor3D"}  # not JSON, or not an image after
    kinds = {name: kind for name, kind in vars(A).items() if name not in abstract | unusable and inspect.isclass(kind)}
    return {name: kind for name, kind in kinds.items() if issubclass(kind, A.BasicTransform | A.BaseCompose)}


def _resolve_inner(transforms: Any, key: str) -> list[dict[str, Any]]:  # noqa: ANN401 - unchecked YAML
    try:
        inner = [TransformParameters.model_validate(transform) for transform in transforms]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{key}.parameters.transforms: give a list of name and parameters") from error
    return [transform.model_dump() for transform in _resolve_all(inner, f"{key}.parameters.transforms")]


def _mask_fill(kind: type, arguments: dict[str, Any], key: str) -> dict[str, int]:
    """Corners of a mask are ignored. Dropouts (default None) leave the mask alone: the network shall fill the gap."""
    fill = arguments.get("fill_mask")
    if fill not in {None, IGNORE_INDEX}:
        raise ConfigurationError(f"{key}.parameters.fill_mask: {fill} would draw a class; leave it out (255, ignored)")
    default = inspect.signature(kind).parameters["fill_mask"].default
    return {} if default is None and fill is None else {"fill_mask": IGNORE_INDEX}


def _check_applicable(transform: TransformParameters, key: str, channels: int, dtype: str) -> None:
    """Apply a transform once, certainly, to noise that looks like the data."""
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (TRIAL_SIZE, TRIAL_SIZE, channels), dtype=dtype)
    mask = np.zeros((TRIAL_SIZE, TRIAL_SIZE), np.uint8)
    mask[::2] = 1
    certain = _build(transform)
    certain.p = 1.0
    try:
        result = A.Compose([certain], strict=True, seed=0)(image=image, mask=mask)
    except Exception as error:
        raise ConfigurationError(
            f"{key}: {transform.name} cannot be applied to {dtype} images with {channels} channels: {error}"
        ) from error
    if result["image"].dtype != image.dtype or result["image"].shape[2:] != image.shape[2:]:
        raise ConfigurationError(
            f"{key}: {transform.name} changes the images' depth or channels ({dtype}, {channels}); "
            "the network normalizes by itself"
        )
