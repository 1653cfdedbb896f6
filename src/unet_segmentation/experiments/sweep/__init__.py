"""Declared variants, trained and evaluated on the same data."""
