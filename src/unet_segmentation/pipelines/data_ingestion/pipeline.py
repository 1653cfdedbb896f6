"""From an address, an archive, a folder or the embedded generator to an index of samples."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.data_ingestion import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Download, verify, extract, index."""
    return Pipeline(
        [
            Node(nodes.download, ["params:source", "archives_dir"], "downloads", name="download"),
            Node(nodes.verify, ["downloads", "params:source", "archives_dir"], "verified_archives", name="verify"),
            Node(
                nodes.extract,
                ["verified_archives", "params:source", "archives_dir", "raw_dir"],
                "extracted_files",
                name="extract",
            ),
            Node(nodes.index, ["extracted_files", "params:source"], "sample_index", name="index"),
        ],
        namespace="data_ingestion",
        prefix_datasets_with_namespace=False,
        inputs={"archives_dir", "raw_dir"},
        parameters={"source"},
    )
