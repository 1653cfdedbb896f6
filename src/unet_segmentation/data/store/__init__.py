"""Memory-mapped arrays of packed samples."""
