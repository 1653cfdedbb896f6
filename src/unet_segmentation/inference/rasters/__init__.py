"""Rasters larger than memory, window by window."""
