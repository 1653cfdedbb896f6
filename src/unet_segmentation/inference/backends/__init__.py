"""Inference backends: PyTorch, torch.export, ONNX Runtime."""
