"""Fitting a recipe: starting, resuming, stopping, checkpoints."""
