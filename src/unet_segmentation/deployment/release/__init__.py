"""Promotion gate and model verification."""
