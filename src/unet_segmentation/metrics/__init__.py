"""Definitions of metrics, counts per image, intervals and paired comparisons."""
