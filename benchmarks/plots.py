"""Draw small SVG plots from results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.figures import median, megapixels_per_second, peer_speed, reference, rows_of


def draw_svg() -> None:
    """Have matplotlib draw SVG files, and the same file from the same results."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "nuclei-edge"


def draw(results: dict[str, Any], out: Path) -> dict[str, Path]:
    """Draw all plots into a folder; return the path of each by its title."""
    draw_svg()
    from matplotlib import pyplot

    plots = {}
    for title, name, fill in (
        ("Speed on the images", "peers.svg", _peers),
        ("Time against area", "area.svg", _area),
        ("Time against nuclei", "nuclei.svg", _nuclei),
    ):
        figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
        fill(axes, results)
        axes.set_title(title)
        figure.savefig(out / name, metadata={"Date": None})
        pyplot.close(figure)
        plots[title] = out / name
    return plots


def _peers(axes: Any, results: dict[str, Any]) -> None:
    names = list(results["peers"])[::-1]
    colours = ["tab:blue" if name.startswith("nuclei-edge") else "tab:gray" for name in names]
    bars = axes.barh(names, [peer_speed(results["peers"][name]) for name in names], color=colours)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.12)  # room for the longest bar's label
    axes.set_xlabel("MP/s")


def _area(axes: Any, results: dict[str, Any]) -> None:
    rows = list(rows_of(results["own"], "area"))
    axes.semilogx([row["megapixels"] for row in rows], [1 / megapixels_per_second(row) for row in rows], "o-")
    axes.set(xlabel="megapixels", ylabel="seconds per megapixel", ylim=(0, None))


def _nuclei(axes: Any, results: dict[str, Any]) -> None:
    rows = list(rows_of(results["own"], "nuclei"))
    numbers = [row["nuclei"] for row in rows]
    axes.plot(numbers, [median(row) for row in rows], "o-", label="segmented and measured")
    axes.plot(numbers, [reference(row, "table") for row in rows], "o-", label="the table alone")
    axes.set(xlabel="nuclei in 1024 x 1024 pixels", ylabel="seconds", ylim=(0, None))
    axes.legend()
