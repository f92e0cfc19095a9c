"""A run over many files: inputs, workers, resume, watch, verify."""
