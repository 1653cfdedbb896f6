"""`kedro predict`: masks of images that have none."""

from __future__ import annotations

import click
from kedro.framework.cli.utils import env_option

from unet_segmentation.cli.base import Command, params_option
from unet_segmentation.cli.session import open_session, run_pipeline, with_options

BACKENDS = ("auto", "pytorch", "bfloat16", "float16", "torch-export", "onnx", "int8")
SYMMETRIES = ("none", "flip", "d4")


@click.command("predict", cls=Command)
@click.argument("source")
@env_option
@click.option(
    "--model",
    multiple=True,
    help="champion, an MLflow run, a file, cv-ensemble; several: their mean.  [default: the champion, else the newest]",
)
@click.option("--output", help="Folder of the results.  [default: below data/07_model_output/PROBLEM/inference]")
@click.option("--test-time-augmentation", type=click.Choice(SYMMETRIES), help="Average over mirrored and turned views.")
@click.option("--backend", type=click.Choice(BACKENDS), help="What computes.  [default: auto, the fastest that agrees]")
@click.option("--overlay/--no-overlay", default=None, help="A picture of each image with the classes in color.")
@click.option("--probabilities/--no-probabilities", default=None, help="The probability of every class.")
@click.option("--polygons/--no-polygons", default=None, help="Regions as GeoJSON and COCO.")
@click.option("--overwrite", is_flag=True, default=None, help="Predict again what was finished before.")
def predict(
    source: str,
    env: str | None,
    model: tuple[str, ...],
    test_time_augmentation: str | None,
    params: dict[str, dict[str, object]],
    **options: object,
) -> None:
    """Segment SOURCE: a folder of images, a file, a page (volume.tif#3), a glob, or a URL.

    Resumes where it was stopped. Exit status 1 where an image could not be read: the others are done.
    """
    options = {"source": source, "model": list(model) or None, **options}
    params = with_options(params, "inference", options)
    if test_time_augmentation:
        params = with_options(params, "predictor", {"test_time_augmentation": test_time_augmentation})
    with open_session(env, params) as session:
        run_pipeline(session, "inference")


predict.params += [params_option]
