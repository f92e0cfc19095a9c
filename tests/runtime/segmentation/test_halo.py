"""The bundled models' halo: what lies beyond a cut changes nothing farther from it."""

from __future__ import annotations

import numpy as np
import pytest

from nuclei_runtime import Segmenter


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_lies_beyond_a_cut_changes_nothing_beyond_the_halo(precision: str) -> None:
    segmenter = Segmenter(precision=precision, threads=1)
    tiling = segmenter.card.input.tiling
    assert tiling is not None
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 1, (1, 288, 32, 3)).astype(np.float32)
    maps = segmenter.network.run(image)[0]
    reach = 0
    for cut in range(128, 161, tiling.multiple_of_px):
        for beyond in (slice(0, cut), slice(cut, None)):
            other = image.copy()
            other[:, beyond] = rng.normal(0.5, 1, other[:, beyond].shape)
            changed = np.flatnonzero((segmenter.network.run(other)[0] != maps).any(axis=(1, 2)))
            reach = max(reach, cut - changed[0] if beyond.start else changed[-1] + 1 - cut)
    assert tiling.multiple_of_px < reach <= tiling.halo_px
    assert reach > 80  # the images show nearly all of it: 92
