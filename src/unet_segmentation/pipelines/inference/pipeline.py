"""From a folder of images to masks, overlays, polygons and a table."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.inference import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the model, list the images, predict by the fastest backend, draw a sheet, summarise."""
    return Pipeline(
        [
            Node(
                nodes.choose_model,
                ["params:problem", "params:inference", "params:predictor", "training_dir", "downloaded_models_dir"],
                "prediction_model",
                name="choose_model",
            ),
            Node(nodes.list_images, ["params:inference", "params:source"], "prediction_inputs", name="list_images"),
            Node(
                nodes.predict_images,
                {
                    "model": "prediction_model",
                    "inputs": "prediction_inputs",
                    "prediction": "params:inference",
                    "inference": "params:predictor",
                    "source": "params:source",
                    "backends_dir": "backends_dir",
                    "results_folder": "inference_dir",
                },
                ["prediction_table", "prediction_summary", "backends"],
                name="predict_images",
            ),
            Node(
                nodes.draw_contact_sheet,
                ["prediction_table", "prediction_summary"],
                "prediction_contact_sheet",
                name="draw_contact_sheet",
            ),
            Node(
                nodes.fail_if_any_image_failed,
                [
                    "prediction_table",
                    "prediction_summary",
                    "prediction_contact_sheet",
                ],  # last: it ends the run where one was broken
                None,
                name="fail_if_any_image_failed",
            ),
        ],
        namespace="inference",
        prefix_datasets_with_namespace=False,
    )
