"""How long a large run takes, what it moves and what it costs: arithmetic on measured figures and named assumptions.

    python -m benchmarks.plan [--images 1000000] [--megapixels 1.05] [--processors 800] ...

Every figure of docs/scaling.md comes from here. Give your own in place of any of them: `nuclei-bench` measures the
speed of your machine.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

REQUESTS_PER_IMAGE = {"write": 6, "read": 8}
"""In an object store: five files and an object that announces them; the image, its size, and the sizes of the five."""


def figures(
    images: int,
    megapixels: float,
    bytes_per_pixel: float,
    speed: float,
    overlay_bytes: float,
    label_bytes: float,
    nuclei: float,
    row_bytes: float,
    resume_s: float,
    task_s: float,
    processors: int,
    processor_usd: float,
    write_usd: float,
    read_usd: float,
    month_usd: float,
) -> dict[str, tuple[float, str]]:
    """Return each result with its unit; see `main` for what the arguments mean."""
    pixels = images * megapixels * 1e6
    seconds = images * megapixels / speed
    read = pixels * bytes_per_pixel
    written = pixels * (overlay_bytes + label_bytes)
    rows = images * megapixels * nuclei
    requests = {"write": write_usd, "read": read_usd}
    return {
        "processor time": (seconds / 3600, "hours"),
        "duration on all processors": (seconds / processors / 3600, "hours"),
        "images per second": (images / seconds * processors, ""),
        "bytes read": (read / 1e9, "GB"),
        "read per second, all processors": (read / seconds * processors / 1e6, "MB/s"),
        "bytes written": (written / 1e9, "GB"),
        "written without overlays": (pixels * label_bytes / 1e9, "GB"),
        "files": (5 * images / 1e6, "million"),
        "nuclei": (rows / 1e6, "million"),
        "nuclei.csv": (rows * row_bytes / 1e9, "GB"),
        "time of one process to check and join all (--resume)": (images * resume_s / 3600, "hours"),
        "processors that Dask's scheduler keeps busy": (megapixels / speed / task_s, ""),
        "cost: processors": (seconds / 3600 * processor_usd, "USD"),
        "cost: requests": (images * sum(REQUESTS_PER_IMAGE[kind] * usd for kind, usd in requests.items()) / 1e3, "USD"),
        "cost: storage for a month": ((read + written) / 1e9 * month_usd, "USD"),
    }


def main(
    images: Annotated[int, typer.Option()] = 1_000_000,
    megapixels: Annotated[float, typer.Option(help="Of an image.")] = 1.05,
    bytes_per_pixel: Annotated[float, typer.Option(help="Of the stored images.")] = 2.0,
    speed: Annotated[float, typer.Option(help="Megapixels per second and processor, with writing.")] = 1.0,
    overlay_bytes: Annotated[float, typer.Option(help="Written per pixel of an image.")] = 1.0,
    label_bytes: Annotated[float, typer.Option(help="Labels, tables and records, per pixel of an image.")] = 0.17,
    nuclei: Annotated[float, typer.Option(help="Per megapixel.")] = 285.0,
    row_bytes: Annotated[float, typer.Option(help="Of nuclei.csv.")] = 175.0,
    resume_s: Annotated[float, typer.Option(help="To check and join the results of an image.")] = 0.0064,
    task_s: Annotated[float, typer.Option(help="Of Dask's scheduler per image.")] = 0.001,
    processors: Annotated[int, typer.Option(help="Of all machines.")] = 800,
    processor_usd: Annotated[float, typer.Option(help="Of a processor, per hour.")] = 0.34 / 8,
    write_usd: Annotated[float, typer.Option(help="Of 1,000 requests that write.")] = 0.005,
    read_usd: Annotated[float, typer.Option(help="Of 1,000 requests that read.")] = 0.0004,
    month_usd: Annotated[float, typer.Option(help="Of a GB in the store for a month.")] = 0.023,
) -> None:
    """Print a Markdown table."""
    assumptions: dict[str, Any] = dict(locals())
    print("| what | figure |\n|---|---|")
    for what, (value, unit) in figures(**assumptions).items():
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        print(f"| {what} | {value:,.{digits}f} {unit}".rstrip() + " |")


if __name__ == "__main__":
    typer.run(main)
