"""Data sets: archives, samples, splits, and what a data set may get wrong."""
