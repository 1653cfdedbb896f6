import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.fabricated_statistics import statistics_of
from unet_segmentation.data.store.packed_arrays import pack
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.parameters import AugmentationParameters, TrainingParameters, TransformParameters
from unet_segmentation.pipelines.augmentation import nodes
from unet_segmentation.training.plan_rules import validate_proposed_plan

PROFILE = statistics_of({"channels": 3, "dtype": "uint8"})
SIZES = {"patch_size": 32, "batch_size": 2, "epochs": 1, "min_steps_per_epoch": 1, "encoder_depth": None}
PLAN = validate_proposed_plan({"values": SIZES | {"oversample_foreground_fraction": 0.0, "foreground_classes": []}})
AUGMENTATION = AugmentationParameters(transforms=[TransformParameters(name="HorizontalFlip")], preview_samples=3)


def table(splits):
    ids = [f"s{number}" for number in range(len(splits))]
    return pd.DataFrame({"sample_id": ids, "split": splits, "masks": [["m.png"]] * len(ids)})


def test_recipe_and_contact_sheet(tmp_path):
    image = np.full((32, 32, 3), 90, np.uint8)
    packed = pack(tmp_path / "packed", {f"s{number}": (image, np.ones((32, 32), np.uint8)) for number in range(4)})
    recipe = nodes.compose_augmentation(AUGMENTATION, PROFILE)
    training = TrainingParameters(batch_size=2)
    sheet = nodes.preview_augmentation(
        recipe, table(["train", "train", "validation", "test"]), packed, PLAN, training, AUGMENTATION, ["a", "b"]
    )
    assert isinstance(sheet, Image.Image)
    assert sheet.width > 6 * 32  # three pairs in one row


def test_nothing_to_preview(tmp_path):
    packed = pack(tmp_path / "packed", {"s0": (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8))})
    recipe = nodes.compose_augmentation(AUGMENTATION, PROFILE)
    with pytest.raises(DataError, match="train split"):
        nodes.preview_augmentation(
            recipe, table(["test"]), packed, PLAN, TrainingParameters(), AUGMENTATION, ["a", "b"]
        )


def test_an_unknown_class_of_the_plan_is_named(tmp_path):
    packed = pack(tmp_path / "packed", {"s0": (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8))})
    recipe = nodes.compose_augmentation(AUGMENTATION, PROFILE)
    values = SIZES | {"oversample_foreground_fraction": 0.3, "foreground_classes": ["nucleis"]}
    plan = validate_proposed_plan({"values": values})
    with pytest.raises(
        ConfigurationError, match=r"plan\.yml(?s:.*)values.foreground_classes: 'nucleis' is not .*nucleus"
    ):
        nodes.preview_augmentation(
            recipe, table(["train"]), packed, plan, TrainingParameters(), AUGMENTATION, ["background", "nucleus"]
        )
