"""From data and plan to weights."""
