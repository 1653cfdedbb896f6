"""Read images, masks and annotation files."""
