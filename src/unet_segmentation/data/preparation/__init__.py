"""Inspect samples and pack them."""
