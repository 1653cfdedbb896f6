"""Path patterns that pair images with masks, and predefined splits."""
