"""The outputs of a plane: one module each, listed in `nuclei_runtime.writers.outputs`."""
