"""Compute from results the figures of the page and the plots: medians, and ratios within a run."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median as median_of
from typing import Any

Row = dict[str, Any]


def rows_of(part: dict[str, Any], what: str) -> Iterator[Row]:
    """Yield the results of one benchmark, in the order in which they were made."""
    return (row for row in part["rows"] if row["what"] == what)


def median(row: Row) -> float:
    """Return the median seconds."""
    return median_of(map(float, row["seconds"]))


def reference(row: Row, name: str) -> float:
    """Return the median seconds of a reference of a benchmark."""
    return median_of(map(float, row["reference_seconds"][name]))


def times(row: Row, name: str) -> float:
    """Return a reference's time divided by the benchmark's: the median over rounds."""
    pairs = zip(row["reference_seconds"][name], row["seconds"], strict=True)
    return median_of(float(other / own) for other, own in pairs)


def megapixels_per_second(row: Row) -> float:
    """Return a benchmark's speed."""
    return float(row["megapixels"]) / median(row)


def share_of_sgemm(row: Row) -> float:
    """Return a network's operations per second, relative to those of a matrix product."""
    return times(row, "sgemm") * float(row["flops"]) / float(row["sgemm_flops"])


def share_outside_network(row: Row) -> float:
    """Return the share of processor time spent outside the network."""
    return 1 - times(row, "network")


def peer_speed(peer: dict[str, Any]) -> float:
    """Return a peer's speed in megapixels per second."""
    return float(peer["megapixels"]) / median_of(map(float, peer["seconds"]))


def peer_times(peers: dict[str, Any], name: str, other: str) -> float:
    """Return how many times as fast as another peer a peer is: the median over rounds."""
    pairs = zip(peers[other]["seconds"], peers[name]["seconds"], strict=True)
    return median_of(float(theirs / own) for theirs, own in pairs)


def busy_ratio(seconds: list[float], cpu_seconds: list[float], cores: int) -> float:
    """Return wall time divided by processor time per core: 1 if every core works all the time."""
    return median_of(cores * wall / cpu for wall, cpu in zip(seconds, cpu_seconds, strict=True))
