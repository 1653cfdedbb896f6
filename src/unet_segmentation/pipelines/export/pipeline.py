"""From a trained network to files that other programs run, through the parity gate."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.export import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Choose the model, export it, quantize it, hold the files against it, publish them."""
    return namespaced(
        "export",
        node(
            nodes.choose_model,
            wire("problem logged_model packed export", best="best_model", cache="downloaded_models_dir"),
            "export_source",
        ),
        node(nodes.export_program, wire(source="export_source", folder="export_workdir"), "exported_program"),
        node(nodes.export_onnx, wire(source="export_source", folder="export_workdir"), "exported_onnx"),
        node(
            nodes.quantize,
            wire("samples packed export", onnx="exported_onnx", source="export_source", folder="export_workdir"),
            "quantization",
        ),
        node(
            nodes.check_parity,
            wire(
                "quantization samples packed predictor_params export",
                source="export_source",
                program="exported_program",
                onnx="exported_onnx",
            ),
            ["parity", "parity_figures", "parity_failures"],
        ),
        node(
            nodes.publish,
            wire(
                "quantization predictor_params export",
                source="export_source",
                program="exported_program",
                onnx="exported_onnx",
                figures="parity_figures",
                failures="parity_failures",
            ),
            "exported_model",
        ),
    )
