"""From a trained network to files that other programs run, through the parity gate."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.export import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the model, export it, quantise it, hold the files against it, publish them."""
    return Pipeline(
        [
            Node(
                nodes.choose_model,
                [
                    "params:problem",
                    "best_model",
                    "logged_model",
                    "packed_dataset",
                    "params:export",
                    "downloaded_models_dir",
                ],
                "export_source",
                name="choose_model",
            ),
            Node(nodes.export_program, ["export_source", "export_workdir"], "exported_program", name="export_program"),
            Node(nodes.export_onnx, ["export_source", "export_workdir"], "exported_onnx", name="export_onnx"),
            Node(
                nodes.quantise,
                ["exported_onnx", "export_source", "samples", "packed_dataset", "params:export", "export_workdir"],
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
                    "packed": "packed_dataset",
                    "inference": "params:predictor",
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
                    "inference": "params:predictor",
                    "export": "params:export",
                },
                "exported_model",
                name="publish",
            ),
        ],
        namespace="export",
        prefix_datasets_with_namespace=False,
    )
