"""From a trained network to files that other programs run, through the parity gate."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.export import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the model, export it, quantise it, hold the files against it, publish them."""
    return Pipeline(
        [
            Node(
                nodes.choose_model,
                {
                    "problem": "params:problem",
                    "best": "best_model",
                    "logged_model": "logged_model",
                    "packed": "packed_dataset",
                    "export": "params:export",
                    "cache": "downloaded_models_dir",
                },
                "export_source",
                name="choose_model",
            ),
            Node(
                nodes.export_program,
                {"source": "export_source", "folder": "export_workdir"},
                "exported_program",
                name="export_program",
            ),
            Node(
                nodes.export_onnx,
                {"source": "export_source", "folder": "export_workdir"},
                "exported_onnx",
                name="export_onnx",
            ),
            Node(
                nodes.quantise,
                {
                    "onnx": "exported_onnx",
                    "source": "export_source",
                    "samples": "samples",
                    "packed": "packed_dataset",
                    "export": "params:export",
                    "folder": "export_workdir",
                },
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
