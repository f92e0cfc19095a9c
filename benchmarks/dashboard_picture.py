"""Draw the picture of Dask's dashboard in docs/cluster.md.

    python -m benchmarks.dashboard_picture docs/dashboard.png

Segments synthetic images on a cluster of two processes, and takes the picture during the run in Chromium with
playwright (the extra `dev`; bokeh must be installed).
"""

from __future__ import annotations

import re
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from PIL import Image

from benchmarks.report_of_many import CHROMIUM
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.runs.cluster import open_cluster
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions

N_IMAGES, SIDE = 150, 192
WIDTH, HEIGHT = 1280, 720
AFTER_MS = 25_000


def main() -> None:
    """Draw the picture."""
    from playwright.sync_api import sync_playwright

    (target,) = map(Path, sys.argv[1:])
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as background:
        images = Path(folder, "images")
        images.mkdir()
        for seed in range(N_IMAGES):
            image = fluorescence_field(seed % 8, height=SIDE, width=SIDE, n_nuclei=14)[0]
            Image.fromarray(image).save(images / f"{seed:03d}.png")
        config = RunConfig((str(images),), Path(folder, "out"), SegmenterOptions(threads=1))
        with open_cluster("local:2", notes.append) as cluster:
            address = re.search(r"http://\S+", notes[0])
            assert address is not None

            def work() -> int:
                with FolderRun(config, cluster=cluster) as run:
                    return sum(outcome.is_ok for outcome in run.outcomes())

            flags = ["--no-sandbox", "--disable-gpu"]
            with (
                sync_playwright() as playwright,
                closing(playwright.chromium.launch(executable_path=CHROMIUM, args=flags)) as browser,
            ):
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                page.goto(address[0])
                page.wait_for_selector(".bk-Figure")
                done = background.submit(work)
                page.wait_for_timeout(AFTER_MS)
                page.screenshot(path=target)
                print(f"taken during the run: {not done.done()}")
            print(f"{done.result()} of {N_IMAGES} images")
    picture = Image.open(target).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    picture.save(target, optimize=True)


if __name__ == "__main__":
    main()
