"""Write the report of a folder of many images and measure its size, its time, and how fast a browser shows it.

    python -m benchmarks.report_of_many [--folder DIR] [--images 1000] [--nuclei 1000]

Makes a results folder as a run would have written it, from fields of ellipses on 96 wells, writes its report, and
prints a Markdown table. The browser is Chromium, driven by playwright (the extra `dev`); without it, only size and
building are measured.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime.arrays import Labels
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.report.build import write_report
from nuclei_runtime.results.folder import ResultsFolder
from nuclei_runtime.results.layout import result_path
from nuclei_runtime.results.outcome import Segmented, segmented
from nuclei_runtime.results.records import FileDigest, Record, digest_file
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.steps.evidence import Evidence
from nuclei_runtime.writers.outputs import LABELS, TABLES, Output, OutputOptions
from nuclei_runtime.writers.plane_files import write_plane_files

PITCH_PX = 32
N_DISTINCT = 59
"""So many that compression, which looks back 32 KB, finds no field again; and prime, so that wells differ."""
ROW_LETTERS, N_COLUMNS = "ABCDEFGH", 12
CHROMIUM = Path("/usr/bin/chromium")


def draw_field(rng: np.random.Generator, n_nuclei: int) -> tuple[NDArray[np.uint16], Labels]:
    """Draw a square field with one ellipse in each place of a grid, moved at random."""
    side = math.ceil(math.sqrt(n_nuclei))
    labels = np.zeros((side * PITCH_PX,) * 2, np.int32)
    rows, columns = np.mgrid[0:PITCH_PX, 0:PITCH_PX] - PITCH_PX / 2
    light = np.zeros(labels.shape)
    for number in range(n_nuclei):
        top, left = (PITCH_PX * place for place in divmod(number, side))
        major = rng.normal(10, 1.5)
        minor = major * rng.uniform(0.6, 1.0)
        turn = rng.uniform(0, np.pi)
        down, right = rng.uniform(-4, 4, 2)
        along = (rows - down) * np.sin(turn) + (columns - right) * np.cos(turn)
        across = (rows - down) * np.cos(turn) - (columns - right) * np.sin(turn)
        inside = (along / major) ** 2 + (across / minor) ** 2 <= 1
        window = slice(top, top + PITCH_PX), slice(left, left + PITCH_PX)
        labels[window][inside] = number + 1
        light[window][inside] = rng.lognormal(8, 0.3)
    light = ndimage.gaussian_filter(light, 1.0) + 400
    return rng.poisson(light).astype(np.uint16), labels


def write_results(out: Path, n_images: int, n_nuclei: int) -> None:
    """Write a results folder. After `N_DISTINCT` fields, the first ones come again under other names."""
    results = ResultsFolder(out)
    results.write_provenance('{"method": {"model": {"name": "made up"}}, "run_key": "made up"}\n')
    wells = [f"{row}{column + 1:02d}" for row in ROW_LETTERS for column in range(N_COLUMNS)]
    stems = [f"{wells[index % len(wells)]}_f{index // len(wells):02d}" for index in range(n_images)]
    drawn = [draw_field(np.random.default_rng(seed), n_nuclei) for seed in range(min(N_DISTINCT, n_images))]
    outputs = OutputOptions().outputs
    placed: list[tuple[Segmented, dict[Output, bytes]]] = []
    for index, stem in enumerate(stems):
        name = f"{stem}.tif"
        with results.store.workspace(name) as work:
            files = {output: work / f"{output.folder}{output.ending}" for output in outputs}
            if index < len(drawn):
                image, labels = drawn[index]
                plane = replace(plane_of(image), pixel_size_um=(0.5, 0.5))
                block = Block(
                    slice(0, image.shape[0]), slice(0, image.shape[1]), image, labels, Evidence(expected_ap=0.9)
                )
                found = Segmented(plane, write_plane_files(name, plane, [block], files))
                placed.append((found, {output: path.read_bytes() for output, path in files.items()}))
            else:
                found, contents = placed[index % len(drawn)]
                for output, content in contents.items():
                    first_name = f"{stems[index % len(drawn)]}.tif"
                    is_table = output is TABLES
                    files[output].write_bytes(
                        content.replace(first_name.encode(), name.encode()) if is_table else content
                    )
            made = {result_path(output, stem): path for output, path in files.items()}
            outcome = segmented(name, found, result_path(LABELS, stem))
            digests = {target: digest_file(path).sha256 for target, path in made.items()}
            results.store.place(Record(name, stem, "made up", FileDigest("0" * 64, 1), (outcome,), digests), made, work)
    results.join([f"{stem}.tif" for stem in stems], "made up")
    results.close()


def in_browser(report: Path) -> Iterator[tuple[str, float]]:
    """Yield how many seconds a browser takes for what a person does with a report."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu"]
    with (
        sync_playwright() as playwright,
        closing(playwright.chromium.launch(executable_path=CHROMIUM, args=flags)) as browser,
    ):
        page = browser.new_page(viewport={"width": 1400, "height": 950})
        page.set_default_timeout(300_000)
        start = time.perf_counter()

        def lap() -> float:
            nonlocal start
            before, start = start, time.perf_counter()
            return start - before

        page.goto(report.as_uri())
        page.wait_for_selector("body[data-ready]")
        yield "open it, until the charts are drawn", lap()
        page.locator("#gallery .card").first.click()
        page.wait_for_selector("#nuclei td")
        yield "open the first image with its table", lap()
        page.keyboard.press("n")
        page.wait_for_function("() => document.querySelector('#viewer-title').textContent.startsWith('A01_f01')")
        yield "go to the next image", lap()
        page.locator("#viewer select.colour").select_option("circularity")
        page.wait_for_selector("#viewer .legend i")
        yield "colour by a measurement", lap()
        page.keyboard.press("Escape")
        lap()
        page.locator("input[name=low]").fill("60")
        page.wait_for_function("() => !/(\\S+) of \\1 nuclei/.test(document.querySelector('#kept').value)")
        yield "keep the nuclei above an area", lap()
        page.locator("#group").select_option("well")
        page.wait_for_function("() => document.querySelector('#numbers tbody td').textContent === 'A01'")
        yield "charts by well", lap()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--nuclei", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = given.folder or Path(temporary) / "results"
        if not (out / "nuclei.csv").is_file():
            write_results(out, given.images, given.nuclei)
        start, started = time.perf_counter(), time.process_time()
        write_report(out)
        seconds, of_processor = time.perf_counter() - start, time.process_time() - started
        rows = [("write it", f"{seconds:.1f} s ({of_processor:.1f} s of processor time)")]
        rows.append(("size", f"{(out / 'report.html').stat().st_size / 1e6:.1f} MB"))
        if CHROMIUM.exists():
            rows += [(what, f"{seconds:.2f} s") for what, seconds in in_browser(out / "report.html")]
        with (out / "images.csv").open(encoding="utf-8", newline="") as file:
            images = list(csv.DictReader(file))
        n_nuclei = sum(int(row["n_nuclei"]) for row in images)
        print(f"{len(images)} images, {n_nuclei} nuclei\n\n| what | figure |\n|---|---|")
        print("\n".join(f"| {what} | {figure} |" for what, figure in rows))


if __name__ == "__main__":
    main()
