"""From a folder of images to masks, overlays, polygons and a table."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.inference import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the model, list the images, predict by the fastest backend, draw a sheet, summarise."""
    return Pipeline(
        [
            Node(
                nodes.choose_model,
                ["params:problem", "params:prediction", "params:inference", "training_folder", "fetched_models"],
                "prediction_model",
                name="choose_model",
            ),
            Node(nodes.list_images, ["params:prediction", "params:source"], "prediction_inputs", name="list_images"),
            Node(
                nodes.predict_images,
                {
                    "model": "prediction_model",
                    "inputs": "prediction_inputs",
                    "prediction": "params:prediction",
                    "inference": "params:inference",
                    "source": "params:source",
                    "backends_folder": "backends_folder",
                    "results_folder": "inference_folder",
                },
                ["prediction_table", "prediction_place", "backends"],
                name="predict_images",
            ),
            Node(
                nodes.draw_sheet,
                ["prediction_table", "prediction_place"],
                "prediction_sheet",
                name="draw_sheet",
            ),
            Node(
                nodes.conclude,
                [
                    "prediction_table",
                    "prediction_place",
                    "prediction_sheet",
                ],  # last: it ends the run where one was broken
                None,
                name="conclude",
            ),
        ],
        namespace="inference",
        prefix_datasets_with_namespace=False,
    )
