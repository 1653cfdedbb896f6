"""The samples: reading images and masks, inspecting, judging, splitting and profiling them, and packing them."""
