"""Semantic segmentation with U-Nets as a Kedro project."""

__version__ = "0.1.0"
