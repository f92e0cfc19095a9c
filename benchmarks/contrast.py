"""Measure how the contents of an image change the measured areas of its nuclei.

    python benchmarks/contrast.py [--model MODEL.onnx]

A model's card says how the contrast is set. If that depends on what else is in the image, so do the areas. Here the
same nuclei are measured in fields of several sizes, on an even, a flickering and a smoothed background, in one colour,
and together with debris or hot pixels. All images are synthetic: blurred ellipses with Gaussian noise, from a fixed
seed. The table is in Markdown; its last column says whether the flag `contrast` is raised.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nuclei_runtime import Segmenter

RNG_SEED = 0
BACKGROUND, SIGNAL, NOISE = 300.0, 2700.0, 40.0
"""Grey levels, as a 12-bit camera gives them in a 16-bit file."""
MAX_VALUE = 65535
SPACING_PX = 54
"""Distance between the centres of neighbouring nuclei: they never touch."""


def draw_nuclei(n: int, side_px: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return the labels of `n` ellipses, 14 to 22 pixels long, in a grid around the middle of a field."""
    truth = np.zeros((side_px, side_px), np.int32)
    rows, columns = np.mgrid[:side_px, :side_px]
    across = int(np.ceil(np.sqrt(n)))
    start = side_px / 2 - SPACING_PX * (across - 1) / 2
    for index in range(n):
        a, b = rng.uniform(7, 11, 2)
        row, column = (start + SPACING_PX * place for place in divmod(index, across))
        truth[((rows - row) / a) ** 2 + ((columns - column) / b) ** 2 <= 1] = index + 1
    return truth


def add_camera(truth: NDArray[np.int32], rng: np.random.Generator, noise: float = NOISE) -> NDArray[np.uint16]:
    """Return the image that a camera gives of these nuclei."""
    blurred: NDArray[np.float64] = ndimage.gaussian_filter((truth > 0).astype(np.float64), 1.2)
    image = BACKGROUND + SIGNAL * blurred + noise * rng.standard_normal(truth.shape)
    return np.clip(image, 0, MAX_VALUE).astype(np.uint16)


def cases() -> Iterator[tuple[str, NDArray[np.int32], NDArray[np.unsignedinteger[Any]]]]:
    """Yield a description, the true labels and the image of each case."""
    rng = np.random.default_rng(RNG_SEED)
    for n in (81, 12, 9, 6, 1):
        truth = draw_nuclei(n, 1024, rng)
        yield "1024 x 1024", truth, add_camera(truth, rng)

    truth = draw_nuclei(4, 1024, rng)
    even = add_camera(truth, rng, noise=0)
    yield "1024 x 1024, even background", truth, even
    flickering = np.where(truth == 0, even + rng.integers(0, 2, even.shape, np.uint16), even)
    yield "1024 x 1024, background flickers by one grey level", truth, flickering

    truth = draw_nuclei(81, 512, rng)
    plain = add_camera(truth, rng)
    yield "512 x 512", truth, plain
    hot = plain.copy()
    hot[rng.integers(0, 512, 600), rng.integers(0, 512, 600)] = MAX_VALUE
    yield f"512 x 512, hot pixels in {np.mean(hot == MAX_VALUE):.2%} of it", truth, hot
    rows, columns = np.mgrid[:512, :512]
    debris = (rows - 20) ** 2 + (columns - 256) ** 2 < 19**2
    dirty = np.where(debris, MAX_VALUE, plain).astype(np.uint16)
    yield f"512 x 512, debris on {np.mean(debris):.2%} of it", truth, dirty
    eight_bits = (plain / 16).clip(0, 255).astype(np.uint8)
    blue = np.zeros((*plain.shape, 3), np.uint8)
    blue[..., 2] = eight_bits
    yield "512 x 512, 8 bits", truth, eight_bits
    yield "512 x 512, 8 bits, saved in blue", truth, blue
    for n in (1, 9, 25, 81):
        truth = draw_nuclei(n, 1024, rng)
        image = add_camera(truth, rng)
        for sigma in (1.0, 1.5, 2.0):
            smoothed = ndimage.gaussian_filter(image.astype(np.float64), sigma).astype(np.uint16)
            yield f"1024 x 1024, smoothed (standard deviation {sigma:g} px)", truth, smoothed


def area_ratio(truth: NDArray[np.int32], found: NDArray[np.int32]) -> float | None:
    """Return the median, over the nuclei that are found, of the found area divided by the true area."""
    ratios = []
    for number in range(1, int(truth.max()) + 1):
        inside = found[truth == number]
        if label := int(np.bincount(inside).argmax()):
            ratios.append((found == label).sum() / inside.size)
    return float(np.median(ratios)) if ratios else None


def main() -> None:
    """Segment all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="default: the bundled model")
    segmenter = Segmenter(parser.parse_args().model)
    print("| image | covered by nuclei | nuclei | found | area, found / true | warns |")
    print("|---|---|---|---|---|---|")
    for name, truth, image in cases():
        result = segmenter.segment(image)
        found = result.labels
        ratio = area_ratio(truth, found)
        warns = "yes" if result.contrast is not None and result.contrast.is_exceeded else ""
        shown = "" if ratio is None else f"{ratio:.2f}"
        print(f"| {name} | {np.mean(truth > 0):.2%} | {truth.max()} | {found.max()} | {shown} | {warns} |")


if __name__ == "__main__":
    main()
