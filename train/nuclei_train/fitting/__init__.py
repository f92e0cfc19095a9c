"""Fitting a recipe: start, resume, checkpoints."""
