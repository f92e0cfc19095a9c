"""Draw the picture of a report in docs/report.md.

    python -m benchmarks.report_picture docs/report.png

Makes synthetic images of a small plate on which the nuclei of two rows are larger, and one image of nothing but noise,
segments them with the bundled model, writes the report, and takes the picture in Chromium with playwright (the extra
`dev`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.report_of_many import CHROMIUM
from nuclei_runtime.checks.synthetic import fluorescence_field

ROWS, N_COLUMNS = {"A": "control", "B": "control", "C": "drug", "D": "drug"}, 4
ENLARGED = 1.25
WIDTH, HEIGHT = 1280, 3400


def write_images(folder: Path) -> None:
    """Write the images of the plate, and the table of conditions beside the folder."""
    folder.mkdir()
    for index, (row, condition) in enumerate(ROWS.items()):
        for column in range(N_COLUMNS):
            seed = index * N_COLUMNS + column
            image, _ = fluorescence_field(seed, height=256, width=256, n_nuclei=14 + 4 * column)
            picture = Image.fromarray(image)
            if condition == "drug":
                side = round(256 * ENLARGED)
                picture = picture.resize((side, side), Image.Resampling.BICUBIC).crop((0, 0, 256, 256))
            picture.save(folder / f"{row}{column + 1:02d}.png")
    noise = np.random.default_rng(0).poisson(12, (256, 256)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "D04.png")
    lines = [f"{row}{column + 1:02d},{name}" for row, name in ROWS.items() for column in range(N_COLUMNS)]
    (folder.parent / "plate.csv").write_text("\n".join(["well,condition", *lines]) + "\n", encoding="utf-8")


def main() -> None:
    """Draw the picture."""
    from playwright.sync_api import sync_playwright

    (target,) = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images")
        options = ["--conditions", "plate.csv", "--pixel-size", "0.5", "--report"]
        subprocess.run(["nuclei-infer", "images", "--out", "plate", *options], cwd=folder, check=True)
        flags = ["--no-sandbox", "--disable-gpu"]
        with (
            sync_playwright() as playwright,
            closing(playwright.chromium.launch(executable_path=CHROMIUM, args=flags)) as browser,
        ):
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto((Path(folder) / "plate" / "report.html").as_uri())
            page.wait_for_selector("body[data-ready]")
            page.locator("#plate-value").select_option("area_um2")
            page.locator("select.colour").first.select_option("area_um2")
            page.wait_for_timeout(2000)
            height = page.evaluate("document.querySelector('#summary').getBoundingClientRect().top")
            page.screenshot(path=target, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
    picture = Image.open(target).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    picture.save(target, optimize=True)


if __name__ == "__main__":
    main()
