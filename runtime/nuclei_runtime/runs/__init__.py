"""Runs over many files: inputs, workers, resuming, watching, verifying."""
