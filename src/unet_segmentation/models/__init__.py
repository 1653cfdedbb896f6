"""Build, load and save segmentation models."""
