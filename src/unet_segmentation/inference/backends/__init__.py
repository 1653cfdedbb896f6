"""Inference backends, one file each: PyTorch, torch.export, ONNX Runtime. A file registers what it can build."""
