"""From a folder of images to masks, overlays, polygons and a table."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.inference import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Build the pipeline: choose the model, list the images, predict, draw a contact sheet, fail where an image did."""
    return Pipeline(
        [
            Node(
                nodes.choose_model,
                inputs={
                    "problem": "params:problem",
                    "prediction": "params:inference",
                    "inference": "params:predictor",
                    "trained": "trained_model",
                    "fold_models": "ensemble_models",
                    "cache": "downloaded_models_dir",
                },
                outputs="prediction_model",
                name="choose_model",
            ),
            Node(
                nodes.list_images,
                inputs={"prediction": "params:inference", "source": "params:source"},
                outputs="prediction_inputs",
                name="list_images",
            ),
            Node(
                nodes.predict_images,
                inputs={
                    "model": "prediction_model",
                    "inputs": "prediction_inputs",
                    "prediction": "params:inference",
                    "inference": "params:predictor",
                    "source": "params:source",
                    "backends_dir": "backends_dir",
                    "results_folder": "inference_dir",
                },
                outputs=["prediction_table", "prediction_summary", "prediction_backend"],
                name="predict_images",
            ),
            Node(
                nodes.draw_contact_sheet,
                inputs={"table": "prediction_table", "summary": "prediction_summary"},
                outputs="prediction_contact_sheet",
                name="draw_contact_sheet",
            ),
            Node(
                nodes.fail_if_any_image_failed,
                # the sheet: this node ends the run where an image was broken, so it is the last
                inputs={
                    "table": "prediction_table",
                    "summary": "prediction_summary",
                    "sheet": "prediction_contact_sheet",
                },
                outputs=None,
                name="fail_if_any_image_failed",
            ),
        ],
        namespace="inference",
        prefix_datasets_with_namespace=False,
    )
