"""Claims of S. N. Rashid, "Semantic Segmentation: U-Net" (Red Buffer, 2021), measured."""
