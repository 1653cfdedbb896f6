"""From a trained network to files that other programs run, through the parity gate."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.export import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the model, export it, quantise it, hold the files against it, publish them."""
    return Pipeline(
        [
            Node(
                nodes.choose_model,
                ["params:problem", "best_model", "logged_model", "packed_samples", "params:export", "fetched_models"],
                "export_source",
                name="choose_model",
            ),
            Node(
                nodes.export_program, ["export_source", "exporting_folder"], "exported_program", name="export_program"
            ),
            Node(nodes.export_onnx, ["export_source", "exporting_folder"], "exported_onnx", name="export_onnx"),
            Node(
                nodes.quantise,
                ["exported_onnx", "export_source", "samples", "packed_samples", "params:export", "exporting_folder"],
                "quantisation",
                name="quantise",
            ),
            Node(
                nodes.check_parity,
                {
                    "source": "export_source",
                    "program": "exported_program",
                    "onnx": "exported_onnx",
                    "quantisation": "quantisation",
                    "samples": "samples",
                    "packed": "packed_samples",
                    "inference": "params:inference",
                    "export": "params:export",
                },
                ["parity", "parity_figures", "parity_failures"],
                name="check_parity",
            ),
            Node(
                nodes.publish,
                {
                    "source": "export_source",
                    "program": "exported_program",
                    "onnx": "exported_onnx",
                    "quantisation": "quantisation",
                    "figures": "parity_figures",
                    "failures": "parity_failures",
                    "inference": "params:inference",
                    "export": "params:export",
                },
                "exported_model",
                name="publish",
            ),
        ],
        namespace="export",
        prefix_datasets_with_namespace=False,
    )
