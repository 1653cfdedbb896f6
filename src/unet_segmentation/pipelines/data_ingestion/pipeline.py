"""From an address, an archive, a folder or the embedded generator to an index of samples."""

from kedro.pipeline import Node, Pipeline

from unet_segmentation.pipelines.data_ingestion import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Download, verify, extract, index."""
    return Pipeline(
        [
            Node(
                nodes.download,
                inputs={"source": "params:source", "archives_dir": "archives_dir"},
                outputs="downloads",
                name="download",
            ),
            Node(
                nodes.verify,
                inputs={"downloads": "downloads", "source": "params:source", "archives_dir": "archives_dir"},
                outputs="verified_archives",
                name="verify",
            ),
            Node(
                nodes.extract,
                inputs={
                    "verified": "verified_archives",
                    "source": "params:source",
                    "archives_dir": "archives_dir",
                    "raw_dir": "raw_dir",
                },
                outputs="extracted_files",
                name="extract",
            ),
            Node(
                nodes.index,
                inputs={"extracted": "extracted_files", "source": "params:source"},
                outputs="sample_index",
                name="index",
            ),
        ],
        namespace="data_ingestion",
        prefix_datasets_with_namespace=False,
        inputs={"archives_dir", "raw_dir"},
        parameters={"source"},
    )
