"""From a folder of images to masks, overlays, polygons and a table."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.inference import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Build the pipeline: choose the model, list the images, predict, draw a contact sheet, fail where an image did."""
    return namespaced(
        "inference",
        node(
            nodes.choose_model,
            wire(
                "problem inference predictor_params",
                trained="trained_model",
                fold_models="ensemble_models",
                cache="downloaded_models_dir",
            ),
            "prediction_model",
        ),
        node(nodes.list_images, wire("inference source"), "prediction_inputs"),
        node(
            nodes.predict_images,
            wire(
                "inference predictor_params source backends_dir",
                model="prediction_model",
                inputs="prediction_inputs",
                results_folder="inference_dir",
            ),
            ["prediction_table", "prediction_summary", "prediction_backend"],
        ),
        node(
            nodes.draw_contact_sheet,
            wire(table="prediction_table", summary="prediction_summary"),
            "prediction_contact_sheet",
        ),
        node(
            nodes.fail_if_any_image_failed,
            # the sheet: this node ends the run where an image was broken, so it is the last
            wire(table="prediction_table", summary="prediction_summary", sheet="prediction_contact_sheet"),
            None,
        ),
    )
