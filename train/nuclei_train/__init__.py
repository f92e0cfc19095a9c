"""Builds and fits the Keras U-Net, and scores what was exported. Needs the extra `train`."""
