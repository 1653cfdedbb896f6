import random

import albumentations as A
import numpy as np
import pytest

from unet_segmentation.errors import ConfigurationError
from unet_segmentation.parameters import AugmentationParameters, AugmentationRecipe
from unet_segmentation.training.augmentation import Augmenter, compose_recipe


def recipe_of(*transforms, channels=3, dtype="uint8"):
    return compose_recipe(AugmentationParameters.model_validate({"transforms": transforms}), channels, dtype)


def sample(size=32):
    image = np.random.default_rng(1).integers(0, 255, (size, size, 3), dtype=np.uint8)
    return image, np.full((size, size), 1, np.uint8)


def test_a_recipe_is_json_that_says_everything_and_survives_a_file():
    recipe = recipe_of({"name": "Affine", "parameters": {"rotate": [-30, 30]}}, {"name": "HorizontalFlip"})
    assert AugmentationRecipe.model_validate_json(recipe.model_dump_json()) == recipe
    affine = {"name": "Affine", "parameters": {"rotate": [-30, 30], "fill_mask": 255}}
    assert recipe.transforms[0].model_dump() == affine
    assert recipe.library == f"albumentations {A.__version__}"


@pytest.mark.parametrize(
    "name", ["Affine", "Rotate", "ShiftScaleRotate", "SafeRotate", "Perspective", "ElasticTransform"]
)
def test_uncovered_corners_are_ignored_never_a_class(name):
    options = {"p": 1.0} | ({"rotate": [45, 45]} if name == "Affine" else {})
    augmenter = Augmenter(recipe_of({"name": name, "parameters": options}))
    values = {int(v) for k in range(20) for v in np.unique(augmenter(*sample(), np.random.default_rng(k))[1])}
    assert values <= {1, 255}
    if name in {"Affine", "Rotate"}:
        assert 255 in values


def test_inside_a_choice_corners_are_ignored_too():
    choice = {"name": "OneOf", "parameters": {"p": 1.0, "transforms": [{"name": "Rotate", "parameters": {"p": 1.0}}]}}
    augmenter = Augmenter(recipe_of(choice))
    masks = [augmenter(*sample(), np.random.default_rng(seed))[1] for seed in range(5)]
    assert set(np.unique(masks)) == {1, 255}


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (4, "uint16"), (5, "uint8")])
def test_d4_gives_the_pixels_of_albumentations(channels, dtype):
    image = np.random.default_rng(1).integers(0, 255, (24, 32, channels)).astype(dtype)
    mask = np.random.default_rng(2).integers(0, 5, (24, 32), dtype=np.uint8)
    actual = Augmenter(recipe_of({"name": "D4"}, channels=channels, dtype=dtype))
    reference = A.Compose([A.D4()])
    shown = set()
    for seed in range(60):
        image_of_ours, mask_of_ours = actual(image, mask, np.random.default_rng(seed))
        generator = np.random.default_rng(seed)
        reference.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        expected = reference(image=image, mask=mask)
        np.testing.assert_array_equal(image_of_ours, expected["image"])
        np.testing.assert_array_equal(mask_of_ours, expected["mask"])
        assert image_of_ours.flags.c_contiguous
        shown.add(mask_of_ours.tobytes())
    assert len(shown) == 8


def test_dropout_leaves_the_mask_alone():
    augmenter = Augmenter(recipe_of({"name": "CoarseDropout", "parameters": {"p": 1.0}}))
    image, mask = augmenter(*sample(), np.random.default_rng(0))
    assert (mask == 1).all()
    assert (image != sample()[0]).any()


def test_what_is_drawn_depends_on_the_generator_alone():
    augmenter = Augmenter(recipe_of({"name": "Affine", "parameters": {"rotate": [-90, 90], "p": 0.8}}, {"name": "D4"}))
    first = [augmenter(*sample(), np.random.default_rng(seed))[0] for seed in range(6)]
    again = [augmenter(*sample(), np.random.default_rng(seed))[0] for seed in reversed(range(6))][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in first}) > 3


def test_chances_of_two_transforms_are_independent():
    flips = Augmenter(recipe_of({"name": "HorizontalFlip"}, {"name": "InvertImg"}))
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, :2] = 10
    outcomes = [flips(image, image[..., 0], np.random.default_rng(seed))[0][0, 0, 0] for seed in range(400)]
    counts = np.array([np.sum(np.array(outcomes) == value) for value in (10, 0, 245, 255)])
    assert counts.sum() == 400
    assert (counts > 60).all()  # 100 expected of each; correlated draws would give 200, 0, 0, 200


def test_nothing_declared_changes_nothing():
    image, mask = sample()
    assert Augmenter(recipe_of())(image, mask, np.random.default_rng(0))[0] is image


def test_sixteen_bits_and_many_channels():
    recipe = recipe_of({"name": "Affine"}, {"name": "RandomBrightnessContrast"}, channels=5, dtype="uint16")
    image = np.full((16, 16, 5), 40_000, np.uint16)
    image, mask = Augmenter(recipe)(image, np.zeros((16, 16), np.uint8), np.random.default_rng(0))
    assert (image.dtype, image.shape, mask.dtype) == (np.uint16, (16, 16, 5), np.uint8)


def test_one_channel_stays_one_channel():
    recipe = recipe_of({"name": "HorizontalFlip"}, {"name": "Affine", "parameters": {"p": 1.0}}, channels=1)
    image, _ = Augmenter(recipe)(
        np.zeros((16, 16, 1), np.uint8), np.zeros((16, 16), np.uint8), np.random.default_rng(0)
    )
    assert image.shape == (16, 16, 1)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"name": "HorizontalFlipp"}, r"augmentation.transforms\[0\].name: .* did you mean 'HorizontalFlip'"),
        (
            {"name": "Affine", "parameters": {"rotat": 3}},
            r"parameters of Affine: there is no 'rotat'; did you .*'rotate'",
        ),
        ({"name": "Affine", "parameters": {"rotate": "far"}}, r"Affine does not take these parameters"),
        ({"name": "Affine", "parameters": {"fill_mask": 0}}, r"fill_mask: 0 would draw a class"),
        ({"name": "Affine", "parameters": {"mask_interpolation": 1}}, r"mask_interpolation must stay 0"),
        ({"name": "Normalize"}, r"Normalize changes the images' depth"),
        ({"name": "Lambda"}, r"there is no 'Lambda'"),
        ({"name": "OneOf", "parameters": {"transforms": 3}}, r"give a list of name and parameters"),
        ({"name": "OneOf", "parameters": {"transforms": [{"name": "Rotat"}]}}, r"transforms\[0\].name.*'Rotate'"),
    ],
)
def test_mistakes_are_named_with_the_nearest_name(transform, message):
    with pytest.raises(ConfigurationError, match=message):
        recipe_of(transform)


def test_a_transform_that_cannot_take_such_images_is_refused_before_training():
    with pytest.raises(
        ConfigurationError, match="HueSaturationValue cannot be applied to uint16 images with 3 channels"
    ):
        recipe_of({"name": "HueSaturationValue"}, dtype="uint16")


def test_a_recipe_of_another_version_is_refused():
    with pytest.raises(ConfigurationError, match="another version"):
        Augmenter(AugmentationRecipe(version=0))
