"""From bytes to packed samples, in the order in which data flows."""
