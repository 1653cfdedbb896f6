"""The network as files that other programs run: torch.export, ONNX, INT8; and the proof that they compute the same."""
