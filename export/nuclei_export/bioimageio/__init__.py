"""Writes a model as a package for bioimage.io. Needs the extra `bioimageio`."""
