"""AP@0.5 with every image as it is and with the view that is chosen, for sets of images and for images of other sizes.

    python -m benchmarks.views DATA[:SPLIT]... [--model M.onnx] [--times 0.35 --times 5]

With --times, the images and their truth are scaled. Besides AP@0.5, the table has the number of pixels that the network
saw for each pixel of an image, which does not depend on how busy the machine is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from skimage.transform import resize

from benchmarks.sets import images_of, title_of
from nuclei_runtime.arrays import Image, Labels
from nuclei_runtime.metrics import match
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.view import AS_IT_IS


class CountingSession:
    """A session that counts the pixels that it is shown."""

    def __init__(self, network: Network) -> None:
        self._session = network.session
        self.card = network.card
        self.n_pixels = 0

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network."""
        self.n_pixels += batch.shape[0] * batch.shape[1] * batch.shape[2]
        return self._session.run(batch)


def scaled(images: Iterable[tuple[str, Image, Labels]], times: float) -> Iterator[tuple[Image, Labels]]:
    """Yield images with their truth, scaled."""
    for _, image, truth in images:
        if times == 1:
            yield image, truth
            continue
        shape = [max(round(times * length), 8) for length in truth.shape]
        pixels = resize(image, shape, order=1, anti_aliasing=times < 1, preserve_range=True)
        labels = resize(truth, shape, order=0, anti_aliasing=False, preserve_range=True)
        yield np.rint(pixels).astype(image.dtype), labels.astype(np.int32)


def score(network: Network, image: Image, truth: Labels) -> float:
    """Return the AP@0.5 of the nuclei that a network finds."""
    labels = np.zeros(truth.shape, np.int32)
    for block in segment_plane(plane_of(image), network):
        labels[block.rows, block.columns] += block.labels
    return float(match(truth, labels).ap()[0])


def main(
    data: Annotated[list[str], typer.Argument(metavar="DATA[:SPLIT]...")],
    model: Annotated[Path | None, typer.Option()] = None,
    times: Annotated[list[float] | None, typer.Option()] = None,
) -> None:
    """Print a row for each set and size."""
    print("| images | times | number | as it is | chosen | network pixels, as it is | chosen |")
    print("|---|---|---|---|---|---|---|")
    for one in data:
        for factor in times or [1.0]:
            pairs = list(scaled(images_of(one), factor))
            n_pixels = sum(truth.size for _, truth in pairs)
            scores, shown = [], []
            for view in (AS_IT_IS, None):
                network = Segmenter(model, view=view).network
                session = CountingSession(network)
                counting = replace(network, session=session)  # type: ignore[arg-type]
                scores.append(np.mean([score(counting, *pair) for pair in pairs]))
                shown.append(session.n_pixels / n_pixels)
            cells = (*(f"{one:.3f}" for one in scores), *(f"{one:.2f}" for one in shown))
            print(f"| {title_of(one)} | {factor:g} | {len(pairs)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
