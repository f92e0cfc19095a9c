"""How many images are flagged, and how many of those with an AP@0.5 below 0.5: as they are, degraded, or no microscopy.

    python -m benchmarks.flags [DATA[:SPLIT]...] [--copies] [--every 2] [--pictures] [--model M.onnx] [--drawing F.svg]

With --copies, the images are degraded in each of `COPIES` instead. With --pictures,
photographs, drawings, noise and patterns are flagged as well; every nucleus that is found in them is wrong. Prints a
table in Markdown, and how well `expected_ap` predicts the AP@0.5 of all images with truth.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image as PillowImage
from scipy import ndimage

from benchmarks.plots import draw_svg
from benchmarks.sets import images_of, title_of
from benchmarks.views import scaled
from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.errors import NucleiError
from nuclei_runtime.metrics import match
from nuclei_runtime.segmentation.segmenter import Segmenter

BAD_AP = 0.5

Pixels = NDArray[np.float64]
Copy = Callable[[Pixels, np.random.Generator], Pixels]


def blurred(sigma_px: float) -> Copy:
    """Return a copy out of focus: with the camera's noise after the blur."""
    return lambda image, rng: (
        smoothed(sigma_px)(image, rng) + rng.normal(0, 1.5, image.shape[:2] + (1,) * (image.ndim - 2))
    )


def smoothed(sigma_px: float) -> Copy:
    """Return a denoised copy."""
    return lambda image, _: ndimage.gaussian_filter(image, (sigma_px, sigma_px, 0)[: image.ndim])


def overexposed(percent: float) -> Copy:
    """Return a copy in which that share of the values is white."""
    return lambda image, _: image * 255 / max(np.percentile(image, 100 - percent), 1)


def restained(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Mix the colours at random."""
    mixing = rng.uniform(0, 1, (3, 3))
    mixed = image @ (mixing / mixing.sum(axis=1, keepdims=True)).T if image.ndim == 3 else image
    return np.asarray(mixed * rng.uniform(0.5, 1) + rng.uniform(0, 60))


COPIES: Mapping[str, tuple[float, Copy]] = {
    "blurred, sigma 3 px": (1, blurred(3)),
    "blurred, sigma 6 px": (1, blurred(6)),
    "smoothed, sigma 2 px": (1, smoothed(2)),
    "overexposed, 15 % white": (1, overexposed(15)),
    "overexposed, 40 % white": (1, overexposed(40)),
    "inverted": (1, lambda image, _: 255 - image),
    "other colours": (1, restained),
    "gamma 0.3 to 0.6": (1, lambda image, rng: 255 * (image / max(image.max(), 1)) ** rng.uniform(0.3, 0.6)),
    "noise as strong as the image": (1, lambda image, rng: image + rng.normal(0, max(image.std(), 4), image.shape)),
    "0.35 times as large": (0.35, lambda image, _: image),
    "3 times as large": (3, lambda image, _: image),
}
"""How much larger the copy is, and what is done to its values; images are 8 bits."""


@dataclass(frozen=True)
class Seen:
    """What is known of an image, and how good its result is."""

    flags: tuple[str, ...]
    expected_ap: float | None
    ap: float


def copies_of(images: Iterator[tuple[Image, Labels]], copy: Copy) -> Iterator[tuple[Image, Labels]]:
    """Yield degraded copies with their truth."""
    for index, (image, truth) in enumerate(images):
        rng = np.random.default_rng(index)
        changed = copy(image[..., :3].astype(float) if image.ndim == 3 else image.astype(float), rng)
        yield np.clip(np.rint(changed), 0, 255).astype(np.uint8), truth


def pictures() -> Iterator[tuple[Image, Labels]]:
    """Yield pictures that are no microscopy: those of scikit-image's wheel, noise and patterns."""
    import skimage.data

    names = (
        "astronaut.png brick.png camera.png chelsea.png chessboard_GRAY.png clock_motion.png coffee.png coins.png "
        "color.png grass.png gravel.png hubble_deep_field.jpg logo.png microaneurysms.png moon.png motorcycle_left.png "
        "page.png phantom.png retina.jpg rocket.jpg text.png horse.png"
    )
    made = []
    for name in names.split():
        with PillowImage.open(Path(skimage.data.__file__).with_name(name)) as opened:
            made.append(np.asarray(opened.convert("L" if opened.mode in ("L", "1", "I;16") else "RGB")))
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:384, :512] / 512
    white = rng.normal(size=(384, 512, 3))
    slope = 200 * columns + 20
    made += [
        np.clip(np.rint(values), 0, 255).astype(np.uint8)
        for values in (
            255 * columns,
            255 * (1 - 1.6 * np.hypot(columns - 0.5, rows - 0.4)),
            slope + 6 * white[..., 0],
            rng.integers(0, 256, (384, 512)),
            rng.poisson(6, (384, 512)),
            *(stretched(ndimage.gaussian_filter(white[..., 0], sigma)) for sigma in (3, 8)),
            rng.integers(0, 256, (384, 512, 3)),
            stretched(ndimage.gaussian_filter(white, (6, 6, 0))),
            127 + 120 * np.sin(40 * np.pi * columns),
            127 + 60 * np.sin(24 * np.pi * columns) + 60 * np.sin(18 * np.pi * rows),
            0 * rows,
            99 + 0 * rows,
            np.where(rng.random((384, 512)) < 1e-3, 255, 5),
        )
    ]
    for image in made:
        yield image, np.zeros(image.shape[:2], np.int32)


def stretched(values: Pixels) -> Pixels:
    """Bring values to 0 to 255."""
    return np.asarray(255 * (values - values.min()) / np.ptp(values))


def look(images: Iterator[tuple[Image, Labels]], segmenter: Segmenter) -> list[Seen]:
    """Segment images. Nothing found where there is nothing is right."""
    found = []
    for image, truth in images:
        result = segmenter.segment(image)
        ap = match(truth, result.labels).ap()[0] if truth.any() or result.count else 1.0
        found.append(Seen(tuple(result.flags), result.expected_ap, ap))
    return found


def row_of(name: str, found: list[Seen]) -> str:
    """Return the row of a set of images."""
    bad = [seen for seen in found if seen.ap < BAD_AP]
    flags = Counter(flag for seen in found for flag in seen.flags)
    shown = ", ".join(f"`{flag}` {n}" for flag, n in flags.most_common())
    flagged, caught = (sum(bool(seen.flags) for seen in group) for group in (found, bad))
    mean_ap = np.mean([seen.ap for seen in found])
    return f"| {name} | {len(found)} | {mean_ap:.3f} | {flagged} | {len(bad)} | {caught} | {shown} |"


def points_of(found: list[Seen]) -> NDArray[np.float64]:
    """Return the expected and the true AP@0.5 of the images that have both, (n, 2)."""
    return np.array([(seen.expected_ap, seen.ap) for seen in found if seen.expected_ap is not None]).reshape(-1, 2)


def draw(path: Path, everything: Mapping[str, list[Seen]]) -> None:
    """Draw the AP@0.5 of each image against what was expected of it."""
    draw_svg()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for (name, found), marker in zip(everything.items(), cycle("osD^vPX"), strict=False):
        axes.plot(*points_of(found).T, marker, label=name, markersize=5, alpha=0.7)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="expected AP@0.5", ylabel="AP@0.5")
    axes.legend(loc="upper left", fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def main(
    data: Annotated[list[str] | None, typer.Argument(metavar="DATA[:SPLIT]...")] = None,
    model: Annotated[Path | None, typer.Option(help="ONNX model. Default: the bundled one.")] = None,
    copies: Annotated[bool, typer.Option("--copies", help="Degraded copies instead of the images.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Only every n-th image.")] = 1,
    with_pictures: Annotated[bool, typer.Option("--pictures", help="Pictures that are no microscopy too.")] = False,
    drawing: Annotated[Path | None, typer.Option(help="SVG of the AP@0.5 of DATA against what is expected.")] = None,
) -> None:
    """Print which images are flagged."""
    print("| images | number | AP@0.5 | flagged | AP@0.5 below 0.5 | of these flagged | flags |")
    print("|---|---|---|---|---|---|---|")
    everything: dict[str, list[Seen]] = {}
    with Segmenter(model) as segmenter:
        for one in data or ():
            title = title_of(one)
            sets = {f"{title}, {name}": of for name, of in COPIES.items()} if copies else {title: (1.0, None)}
            for name, (times, copy) in sets.items():
                images = islice(scaled(images_of(one), times), None, None, every)
                found = look(images if copy is None else copies_of(images, copy), segmenter)
                everything[name] = found
                print(row_of(name, found), flush=True)
        if with_pictures:
            print(row_of("no microscopy", look(pictures(), segmenter)))
    known = np.concatenate([points_of(found) for found in everything.values()]) if everything else np.zeros((0, 2))
    if len(known) > 1:
        print(f"\nCorrelation of expected_ap with AP@0.5 over {len(known)} images: {np.corrcoef(known.T)[0, 1]:.3f}")
    if drawing is not None:
        draw(drawing, everything)


if __name__ == "__main__":
    try:
        typer.run(main)
    except NucleiError as error:
        sys.exit(str(error))
