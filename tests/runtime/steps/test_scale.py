"""Nuclei of any size are shown at the size of a network's training nuclei: the factors, and the results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.transform import resize

from nuclei_runtime import Segmenter, View
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ModelError
from nuclei_runtime.metrics import match
from nuclei_runtime.readers.plane import plane_of
from nuclei_runtime.segmentation.block_search import Grid
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.scale import LARGEST_SHOWN, SMALLEST_SHOWN, Scale, enlarge, reduce, scale_for
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import Tiling, run_tiled

RunMain = Callable[..., tuple[int, str, str]]

FIELD, TRUTH = fluorescence_field(7, height=240, width=210, n_nuclei=40)
"""Nuclei of about the size that the bundled model knows."""


def scaled(times: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the field and its truth at another size; if it is a large one, a quarter of them."""
    part = (slice(120), slice(105)) if times > 4 else (slice(None), slice(None))
    field, truth = FIELD[part], TRUTH[part]
    shape = [round(side * times) for side in field.shape]
    image = np.rint(resize(field / 255, shape, order=1, anti_aliasing=times < 1) * 255).astype(np.uint8)
    return image, resize(truth, shape, order=0, anti_aliasing=False, preserve_range=True).astype(np.int32)


@pytest.mark.parametrize("diameter_px", [4, 7.3, 8.4, 8.6, 17, 20, 33.9, 34.1, 51, 120, 400])
def test_nuclei_are_shown_about_as_large_as_they_are_known_and_never_scaled_both_ways(diameter_px: float) -> None:
    scale = scale_for(diameter_px, 20)
    assert SMALLEST_SHOWN - 1e-9 <= diameter_px * scale.factor / 20 <= LARGEST_SHOWN + 1e-9
    assert 1 in (scale.enlarged, scale.reduced)


def test_no_more_is_scaled_than_must_be() -> None:
    assert [str(scale_for(px, 20)) for px in (8, 17, 34, 35, 68, 70)] == ["3/1", "1/1", "1/1", "1/2", "1/2", "1/3"]


@pytest.mark.parametrize("diameter_px", [0.0, -20.0, 3.9, 401.0, float("nan"), float("inf")])
def test_an_invalid_diameter_is_refused(diameter_px: float, tiled_model: Path) -> None:
    with pytest.raises(ValueError, match="diameter_px must be 4 to 400 pixels, found"):
        Segmenter(tiled_model, diameter_px=diameter_px)


def test_a_model_of_quite_other_nuclei_is_refused() -> None:
    with pytest.raises(ModelError, match="trained on nuclei of 900 pixels, which is too far from 5"):
        scale_for(5, 900)


def test_it_is_scaled_as_scikit_image_does() -> None:
    batch = np.random.default_rng(0).random((1, 6, 12, 2), dtype=np.float32)
    for times in (1, 2, 3):
        larger = resize(batch[0], (6 * times, 12 * times, 2), order=1, mode="edge", anti_aliasing=False)
        np.testing.assert_allclose(enlarge(batch, times)[0], larger, atol=1e-6)
        squares = batch[0].reshape(6 // times, times, 12 // times, times, 2)
        np.testing.assert_allclose(reduce(batch, times)[0], squares.mean(axis=(1, 3)), atol=1e-6)


def test_lengths_and_areas_are_the_image_s(tiled_model: Path) -> None:
    step = Step("marker_watershed", {"min_area_px": 20, "min_marker_area_px": 1, "threshold": 0.5})
    assert Scale(reduced=3).method(step).kwargs == {"min_area_px": 180, "min_marker_area_px": 9, "threshold": 0.5}
    assert Scale(enlarged=3).method(step).kwargs == {"min_area_px": 2, "min_marker_area_px": 1, "threshold": 0.5}
    assert Scale(enlarged=3).tiling(Tiling(512, 112, 16)) == Tiling(160, 48, 16)
    assert Scale(enlarged=5).tiling(Tiling(64, 16, 16)) == Tiling(16, 16, 16)
    assert Scale(reduced=3).tiling(Tiling(64, 16, 8)) == Tiling(192, 48, 24)
    known = Segmenter(tiled_model).card.training_nucleus_diameter_px
    for factor, tta, magnification in ((1, False, 1), (3, False, 0.5), (3, True, 1), (0.4, False, 3), (0.4, True, 6)):
        segmenter = Segmenter(tiled_model, tta=tta, diameter_px=factor * known)
        assert segmenter.network.magnification == magnification


@pytest.mark.parametrize(("times", "gain"), [(0.3, 0.1), (3.0, 0.0), (8.0, 0.1)])
def test_nuclei_are_found_at_any_size_if_it_is_said(times: float, gain: float) -> None:
    """The bundled model also knows nuclei of a few times the usual size; there, little is gained."""
    image, truth = scaled(times)
    known = Segmenter().card.training_nucleus_diameter_px
    found, as_it_is = (
        match(truth, segmenter.segment(image).labels).ap()[0]
        for segmenter in (Segmenter(diameter_px=times * known), Segmenter(view=View()))
    )
    assert found > 0.8
    assert found > as_it_is + gain


@pytest.mark.parametrize(("factor", "tta"), [(3, False), (4, False), (3, True), (0.4, False)])
def test_tiles_equal_the_whole(stem_unet: Path, factor: float, *, tta: bool) -> None:
    """A network with the strides and the receptive field of the real one, on an image whose size no factor divides."""
    known = Segmenter(stem_unet).card.training_nucleus_diameter_px
    segmenter = Segmenter(stem_unet, threads=1, tta=tta, diameter_px=factor * known)
    height, width = (787, 641) if factor > 1 else (293, 241)  # the network sees the second one enlarged
    field, _ = fluorescence_field(5, height=height, width=width, n_nuclei=height // 9)
    image = preprocess(field, segmenter.card.preprocessing)
    assert segmenter.network.tiling is not None
    step = segmenter.network.tiling.multiple_of_px
    tiles, whole = (
        run_tiled(segmenter.network.run, image, replace(segmenter.network.tiling, core_px=n * step)) for n in (5, 100)
    )
    assert tiles.shape == (height, width, 3)
    np.testing.assert_array_equal(tiles, whole)


def test_blocks_find_what_the_whole_has(tiled_model: Path) -> None:
    image, _ = scaled(3.0)
    segmenter = Segmenter(tiled_model, diameter_px=3 * Segmenter(tiled_model).card.training_nucleus_diameter_px)
    whole = segmenter.segment(image)
    blocks = list(segment_plane(plane_of(image), segmenter.network, grid=Grid(core_px=256, margin_px=128)))
    assert len(blocks) > 4
    assert sum(int((np.unique(block.labels) > 0).sum()) for block in blocks) == whole.count > 10


def test_a_network_of_one_size_is_not_shown_another(tiny_model: Path) -> None:
    with pytest.raises(
        ModelError, match=r"takes images of 128 x 128 pixels only, .* a diameter and a view change the image"
    ):
        Segmenter(tiny_model, diameter_px=40)


def test_the_command_takes_it_and_a_run_with_another_is_another(tmp_path: Path, run_main: RunMain) -> None:
    from nuclei_runtime.cli.infer import main as infer_main

    image, truth = scaled(3.0)
    Image.fromarray(image).save(tmp_path / "a.png")
    options = (tmp_path / "a.png", "--out", tmp_path / "out")
    assert run_main(infer_main, *options, "--diameter", 60)[0] == 0
    method = json.loads((tmp_path / "out/provenance.json").read_text(encoding="utf-8"))["method"]
    assert method["scale"] == "1/2"
    assert (
        method["postprocessing"]["kwargs"]["min_area_px"] == 4 * Segmenter().card.postprocessing.kwargs["min_area_px"]
    )
    n_rows = len((tmp_path / "out/nuclei.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert abs(n_rows - truth.max()) <= 0.1 * truth.max()
    assert "another model, other options" not in run_main(infer_main, *options, "--diameter", 60, "--resume")[2]
    code, _, printed = run_main(infer_main, *options, "--resume")
    assert code == 0
    assert "another model, other options" in printed
    assert run_main(infer_main, *options, "--resume", "--diameter", 3)[0] == 2
