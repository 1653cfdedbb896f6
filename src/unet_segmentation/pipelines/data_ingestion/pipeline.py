"""From an address, an archive, a folder or the embedded generator to an index of samples."""

from kedro.pipeline import Pipeline

from unet_segmentation.pipelines import namespaced, node, wire
from unet_segmentation.pipelines.data_ingestion import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Download, verify, extract, index."""
    return namespaced(
        "data_ingestion",
        node(nodes.download, wire("source archives_dir"), "downloads"),
        node(nodes.verify, wire("downloads source archives_dir"), "verified_archives"),
        node(nodes.extract, wire("source archives_dir raw_dir", verified="verified_archives"), "extracted_files"),
        node(nodes.index, wire("source", extracted="extracted_files"), "sample_index"),
    )
