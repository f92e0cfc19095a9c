"""Converts the best checkpoint of a run into one ONNX file. Needs the extra `export`."""
