"""Test-time augmentation: the mean of two scales, the same in tiles as for the whole image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.transform import resize

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ModelError
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.tiling import Tiling, run_tiled
from nuclei_runtime.steps.tta import average_scales


def test_the_network_sees_the_image_as_it_is_and_enlarged_as_scikit_image_enlarges_it() -> None:
    batch = np.random.default_rng(0).random((2, 6, 8, 3), dtype=np.float32)
    seen = []

    def run(inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs.copy())
        return inputs

    average_scales(run)(batch)
    own, enlarged = seen
    np.testing.assert_array_equal(own, batch)
    assert enlarged.dtype == np.float32
    for one, expected in zip(enlarged, batch, strict=True):
        np.testing.assert_allclose(one, resize(expected, (12, 16, 3), order=1, mode="edge"), atol=1e-6)


def test_both_answers_count_alike_and_lie_where_they_belong() -> None:
    batch = np.random.default_rng(1).random((1, 4, 6, 2), dtype=np.float32)

    def run(inputs: np.ndarray) -> np.ndarray:
        """Return the batch or, if it is enlarged, squares whose mean is twice the batch."""
        if inputs.shape == batch.shape:
            return batch
        squares = np.repeat(np.repeat(batch, 2, axis=1), 2, axis=2)
        return squares * np.tile(np.array([[1, 3], [0, 4]], np.float32), (4, 6))[np.newaxis, ..., np.newaxis]

    np.testing.assert_allclose(average_scales(run)(batch), 1.5 * batch, rtol=1e-6)


def test_a_segmenter_averages_on_demand(tiled_model: Path) -> None:
    image = fluorescence_field(3, height=90, width=70, n_nuclei=6)[0]
    plain, averaged = Segmenter(tiled_model), Segmenter(tiled_model, tta=True)
    assert (plain.network.view.tta, averaged.network.view.tta) == (False, True)
    assert (plain.network.magnification, averaged.network.magnification) == (1, 2)
    (maps,) = averaged.predict([image])
    np.testing.assert_array_equal(averaged.segment(image).labels, averaged.find_instances(maps).labels)
    assert not np.array_equal(maps, next(plain.predict([image])))
    batch = preprocess(image, plain.card.preprocessing)[np.newaxis]
    np.testing.assert_array_equal(averaged.network.run(batch), average_scales(plain.network.run)(batch))


@pytest.mark.parametrize("shape", [(400, 336), (300, 500)])
def test_tiles_equal_the_whole(stem_unet: Path, shape: tuple[int, int]) -> None:
    """A network with the strides and the receptive field of the real one."""
    segmenter = Segmenter(stem_unet, threads=1, tta=True)
    image = preprocess(
        fluorescence_field(5, height=shape[0], width=shape[1], n_nuclei=30)[0], segmenter.card.preprocessing
    )
    tiles, whole = (run_tiled(segmenter.network.run, image, Tiling(core_px, 112, 16)) for core_px in (64, 512))
    np.testing.assert_array_equal(tiles, whole)


def test_a_network_of_one_size_cannot_be_shown_an_enlarged_image(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny takes images of 128 x 128 pixels only, .* use a model for any size"):
        Segmenter(tiny_model, tta=True)
