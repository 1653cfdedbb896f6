"""Counts and scores: plain arithmetic on numpy arrays and tables. Nothing here knows of a network."""
