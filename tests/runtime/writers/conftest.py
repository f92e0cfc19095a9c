"""Label images with everything that is awkward for outlines, and how a run writes an output of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.blocks import Block
from nuclei_runtime.writers.outputs import OUTPUTS
from nuclei_runtime.writers.plane_files import write_plane_files

WriteOutput = Callable[..., Path]


@pytest.fixture(scope="session")
def odd_labels() -> NDArray[np.int32]:
    """Nuclei of a synthetic field, which touch each other and the edges, and four odd ones below them.

    One with a hole, one whose hole touches its outside at a corner, one in two pieces that touch at a corner, and one
    of a single pixel in the last corner of the image.
    """
    labels = np.zeros((150, 130), np.int32)
    _, field = fluorescence_field(3, height=120, width=130, n_nuclei=20)
    for number in range(1, field.max() + 1):
        labels[:120][field == number] = labels.max() + 1
    n = int(labels.max())
    labels[124:131, 4:11] = n + 1
    labels[126:128, 6:9] = 0
    labels[124:127, 20:23] = n + 2
    labels[125, 21] = labels[126, 22] = 0
    labels[124:130, 30:36] = n + 3
    labels[130:134, 36:44] = n + 3
    labels[149, 129] = n + 4
    return labels


@pytest.fixture
def write_output(tmp_path: Path) -> WriteOutput:
    """Write one output of a label image, whose nuclei come in two blocks; return its path."""

    def write(folder: str, labels: NDArray[np.int32], image: NDArray[Any] | None = None, **of_plane: object) -> Path:
        (output,) = (output for output in OUTPUTS if output.folder == folder)
        image = np.arange(labels.size, dtype=np.uint32).reshape(labels.shape) if image is None else image
        plane = replace(plane_of(image), **of_plane)  # type: ignore[arg-type]
        half, blocks = int(labels.max()) // 2, []
        for part in (np.where(labels <= half, labels, 0), np.where(labels > half, labels, 0)):
            rows, columns = (
                slice(int(found[0]), int(found[-1]) + 1)
                if (found := np.flatnonzero(part.any(axis))).size
                else slice(0, 9)
                for axis in (1, 0)
            )
            blocks.append(Block(rows, columns, image[rows, columns], part[rows, columns]))
        path = tmp_path / f"a{output.ending}"
        assert write_plane_files("a.tif", plane, blocks, {output: path}).n_nuclei == labels.max()
        return path

    return write
