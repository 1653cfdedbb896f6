"""From an address, an archive, a folder or the embedded generator to an index of samples."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.acquisition import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Download, verify, extract, index."""
    return Pipeline(
        [
            Node(nodes.download, ["params:source", "archives_folder"], "downloads", name="download"),
            Node(nodes.verify, ["downloads", "params:source", "archives_folder"], "verified_archives", name="verify"),
            Node(
                nodes.extract,
                ["verified_archives", "params:source", "archives_folder", "raw_folder"],
                "extracted_files",
                name="extract",
            ),
            Node(nodes.index, ["extracted_files", "params:source"], "indexed_samples", name="index"),
        ],
        namespace="acquisition",
        prefix_datasets_with_namespace=False,
        inputs={"archives_folder", "raw_folder"},
        parameters={"source"},
    )
