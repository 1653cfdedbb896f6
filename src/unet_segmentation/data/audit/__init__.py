"""Dataset audit: checks, near-duplicates, leakage and the result."""
