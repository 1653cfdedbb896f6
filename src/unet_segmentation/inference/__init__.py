"""From images to masks, without ground truth."""
