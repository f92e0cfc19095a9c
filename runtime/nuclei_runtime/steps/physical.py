"""Comparing lengths and areas in micrometres, which are products of numbers of pixels and the size of one."""

from __future__ import annotations

ROUNDING = 1e-9
"""Relative tolerance. The rounding of such a product in float64 is smaller by several orders of magnitude."""
