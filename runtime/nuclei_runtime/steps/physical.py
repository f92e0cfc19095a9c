"""Comparing lengths and areas in micrometres, which are products of numbers of pixels and the size of one."""

from __future__ import annotations

ROUNDING = 1e-9
"""By how much of itself a product in float64 may miss the number that a user has written, and far more."""
