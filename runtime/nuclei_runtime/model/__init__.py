"""The model file: its card, its checks, and the ONNX Runtime session that runs it."""
