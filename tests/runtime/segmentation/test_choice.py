"""The network chooses how it is shown a plane by what it sees there, whatever the memory and the size of the blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.transform import resize

from nuclei_runtime import Plane, Scale, Segmenter, View, plane_of
from nuclei_runtime.arrays import Labels
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ModelError
from nuclei_runtime.metrics import match
from nuclei_runtime.model.session import Session
from nuclei_runtime.segmentation import choice, memory
from nuclei_runtime.segmentation.block_search import Grid
from nuclei_runtime.segmentation.blocks import segment_plane
from nuclei_runtime.segmentation.choice import SQUARE_PX, Eye, choose_view, most_structure
from nuclei_runtime.segmentation.memory import Budget
from nuclei_runtime.segmentation.network import Network
from nuclei_runtime.segmentation.plane_input import has_colours
from nuclei_runtime.steps.flags import Flag
from nuclei_runtime.steps.view import AS_IT_IS, other_views
from nuclei_runtime.steps.view_choice import Signs, ViewChoice

FIELD, TRUTH = fluorescence_field(7, height=180, width=160, n_nuclei=25)
CURIOUS = ViewChoice(0.0, Signs(0.0, 0.0, 0.0, 0.0, 0.01), 1.0, 1.0, 0.0)
"""Looks at everything, and prefers the view with the most nuclei."""


@pytest.fixture(scope="module")
def bundled() -> Segmenter:
    return Segmenter(threads=1)


@pytest.fixture(scope="module")
def curious(stem_unet: Path) -> Network:
    network = Segmenter(stem_unet, threads=1).network
    session = replace(network.session, card=replace(network.card, views=CURIOUS))
    return replace(network, session=session, others=other_views()[:4])


def stained_tissue() -> NDArray[np.uint8]:
    """Nuclei in purple on a pink ground, as in a section stained with haematoxylin and eosin."""
    amount = (FIELD / FIELD.max())[..., np.newaxis]
    return np.rint(np.array([235, 190, 220]) * (1 - amount) + np.array([90, 60, 140]) * amount).astype(np.uint8)


def watched(plane: Plane) -> tuple[Plane, list[tuple[slice, slice]]]:
    """Return the plane, and a list of the regions that are read of it."""
    regions: list[tuple[slice, slice]] = []

    def read(rows: slice, columns: slice) -> NDArray:
        regions.append((rows, columns))
        return plane.read(rows, columns)

    return replace(plane, read=read, reads_blocks=True), regions


def test_nuclei_as_in_training_are_shown_as_they_are(bundled: Segmenter) -> None:
    found = bundled.segment(FIELD)
    assert found.view == AS_IT_IS
    assert found.expected_ap is not None
    assert found.expected_ap > 0.6
    assert found.estimated_diameter_px == pytest.approx(20, rel=0.2)
    np.testing.assert_array_equal(found.labels, Segmenter(threads=1, view=View()).segment(FIELD).labels)


def magnified(field: NDArray[np.uint8], truth: Labels, times: int) -> tuple[NDArray[np.uint8], Labels]:
    shape = [times * length for length in field.shape]
    large = np.rint(resize(field / 255, shape, order=1) * 255).astype(np.uint8)
    return large, resize(truth, shape, order=0, anti_aliasing=False, preserve_range=True).astype(np.int32)


@pytest.mark.parametrize("seed", [1, 5, 7])
def test_one_or_two_large_nuclei_are_found(bundled: Segmenter, seed: int) -> None:
    """Shown as they are, the network is not sure of them, or finds only pieces."""
    large, truth = magnified(*fluorescence_field(seed, height=100, width=100, n_nuclei=2), 6)
    found = bundled.segment(large)
    assert found.view.scale.reduced > 1
    assert match(truth, found.labels).ap()[0] == 1


def test_large_nuclei_are_shown_smaller(bundled: Segmenter) -> None:
    large, truth = magnified(FIELD, TRUTH, 6)
    found = bundled.segment(large)
    assert found.view.scale.reduced > 1
    assert match(truth, found.labels).ap()[0] > 0.85
    (maps,) = bundled.predict([large], view=found.view)
    np.testing.assert_array_equal(bundled.find_instances(maps, view=found.view).labels, found.labels)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_empty_field_stays_empty(bundled: Segmenter, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.poisson(20, (300, 300)).astype(np.uint16)
    glass = np.clip(rng.normal(235, 3, (300, 300, 3)), 0, 255).astype(np.uint8)
    slope = (np.add.outer(np.arange(300), np.arange(300)) / 4).astype(np.uint8)
    for empty in (noise, glass, slope, np.zeros((3, 2), np.uint8), np.full((40, 30, 3), 255, np.uint8)):
        assert bundled.segment(empty).count == 0


def test_a_field_in_which_nothing_stands_out_is_looked_at_once(
    bundled: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every scale the network would see 0 everywhere; looking took twenty times as long as nuclei do."""
    n_runs, run = 0, Session.run

    def counting(session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal n_runs
        n_runs += 1
        return run(session, batch)

    monkeypatch.setattr(Session, "run", counting)
    result = bundled.segment(np.random.default_rng(0).poisson(20, (90, 100)).astype(np.uint16))
    assert (n_runs, result.count, result.view, result.flags) == (1, 0, AS_IT_IS, (Flag.BLANK,))


def test_the_user_may_fix_it(bundled: Segmenter) -> None:
    tissue = stained_tissue()
    assert bundled.segment(np.dstack([FIELD] * 3)).view.stain == "rgb"
    assert Segmenter(threads=1, stain="he").segment(tissue).view.stain == "he"
    half = Segmenter(threads=1, view=View(Scale(1, 2), "hdab")).segment(tissue)
    assert half.view == View(Scale(1, 2), "hdab")
    assert half.expected_ap is not None  # nothing was chosen, and yet it is known what to expect
    as_it_is = Segmenter(threads=1, view=View()).segment(FIELD).labels
    for fixed in (Segmenter(threads=1, view=View(stain="he")), Segmenter(threads=1, stain="he")):
        grey = fixed.segment(np.dstack([FIELD] * 3))
        assert grey.view == AS_IT_IS  # it has no stain, and is not inverted
        np.testing.assert_array_equal(grey.labels, as_it_is)
    with pytest.raises(ValueError, match="stain must be one of rgb, he, hdab, found 'pas'"):
        Segmenter(stain="pas")
    with pytest.raises(ValueError, match="give either it, or diameter_px and stain"):
        Segmenter(view=View(), diameter_px=30)


@pytest.mark.parametrize("stain", ["he", "hdab"])
def test_maps_are_those_that_were_segmented(stain: str) -> None:
    """Even if the segmenter's own view says otherwise: a picture in one channel has no stain."""
    blue = np.zeros((*FIELD.shape, 3), FIELD.dtype)
    blue[..., 2] = FIELD
    fixed = Segmenter(threads=1, view=View(stain=stain))
    found = fixed.segment(blue)
    assert found.view == AS_IT_IS
    for view in (None, found.view):
        (maps,) = fixed.predict([blue], view=view)
        np.testing.assert_array_equal(fixed.find_instances(maps).labels, found.labels)


def test_of_small_and_large_nuclei_the_small_ones_are_also_shown_enlarged(bundled: Segmenter) -> None:
    averaging = Segmenter(threads=1, tta=True)
    once, found = bundled.segment(FIELD), averaging.segment(FIELD)
    assert (once.view, found.view) == (AS_IT_IS, View(tta=True))
    assert found.evidence == once.evidence
    assert not np.array_equal(found.labels, once.labels)
    (maps,) = bundled.predict([FIELD], view=found.view)
    np.testing.assert_array_equal(bundled.find_instances(maps, view=found.view).labels, found.labels)
    large = magnified(FIELD, TRUTH, 2)[0]
    once, found = bundled.segment(large), averaging.segment(large)
    assert found.view == once.view == AS_IT_IS
    np.testing.assert_array_equal(found.labels, once.labels)
    fixed = Segmenter(threads=1, tta=np.True_, view=View()).segment(large)
    assert fixed.view.tta is True
    assert fixed.view == View(tta=True)
    np.testing.assert_array_equal(fixed.labels, Segmenter(threads=1, view=fixed.view).segment(large).labels)


def test_a_model_that_expects_nothing_cannot_be_asked_for_a_quality(stem_unet: Path) -> None:
    with pytest.raises(ModelError, match="does not estimate the quality of its results"):
        Segmenter(stem_unet, min_quality=0.8)


def test_a_model_without_a_choice_is_shown_all_as_they_are(stem_unet: Path) -> None:
    segmenter = Segmenter(stem_unet, threads=1)
    assert segmenter.network.others == ()
    found = segmenter.segment(FIELD)
    assert (found.view, found.expected_ap) == (AS_IT_IS, None)


def test_the_choice_does_not_depend_on_the_memory(curious: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: 90 << 20)
    image, _ = fluorescence_field(6, height=330, width=620, n_nuclei=40)
    plane = replace(plane_of(image), reads_blocks=True)
    results = []
    for ceiling in ((90 + 90) << 20, 8 << 30):
        eye = Eye(plane, curious, Budget(plane, ceiling, curious), 256)
        found = [eye.find(view) for view in (curious.view, *curious.others)]
        assert len(eye.parts) == 1
        chosen = choose_view(plane, curious, Budget(plane, ceiling, curious), 256)
        results.append((chosen.network.view, chosen.evidence, found))
    assert results[0][:2] == results[1][:2]
    for scarce, plenty in zip(results[0][2], results[1][2], strict=True):
        np.testing.assert_array_equal(scarce[0][1], plenty[0][1])


def test_blocks_say_the_view_and_are_those_of_the_whole(curious: Network) -> None:
    image, _ = fluorescence_field(6, height=330, width=420, n_nuclei=40)

    def together(grid: Grid) -> tuple[NDArray, set[View]]:
        labels, views = np.zeros(image.shape, np.int32), set()
        for block in segment_plane(plane_of(image), curious, grid=grid):
            labels[block.rows, block.columns] += block.labels
            views.add(block.view)
        return labels, views

    whole, (view,) = together(Grid())
    parts, views = together(Grid(core_px=128, margin_px=256))
    assert views == {view}
    assert whole.any()
    np.testing.assert_array_equal(parts > 0, whole > 0)


def test_of_a_large_plane_only_the_squares_with_most_structure_are_looked_at(curious: Network) -> None:
    image = np.zeros((600, 1700), np.uint8)
    image[40:220, 1060:1220] = FIELD
    plane, regions = watched(plane_of(image))
    eye = Eye(plane, curious, Budget(plane, None, curious), 1024)
    assert eye.parts == [(slice(0, 512), slice(1024, 1536))]
    regions.clear()
    eye.look(curious.view)
    assert all(rows.stop <= 512 and columns.start >= 1024 and columns.stop <= 1536 for rows, columns in regions)
    empty = plane_of(np.zeros((600, 1700), np.uint8))
    assert Eye(empty, curious, Budget(empty, None, curious), 1024).parts == []


def test_squares_are_ranked_by_their_blocks() -> None:
    blocks = np.zeros((20, 40), bool)
    blocks[0, 20], blocks[16:18, 3] = True, True
    squares = most_structure(blocks, (20 * 32, 40 * 32), 5)
    assert squares == [(slice(512, 640), slice(0, 512)), (slice(0, 512), slice(512, 1024))]
    assert most_structure(np.ones((32, 32), bool), (1024, 1024), 1) == [(slice(0, SQUARE_PX), slice(0, SQUARE_PX))]


def test_colours_are_looked_for_in_the_whole_plane() -> None:
    grey = np.zeros((1030, 8, 3), np.uint8)
    assert not has_colours(plane_of(grey))
    grey[1029, 7, 0] = 1
    assert has_colours(plane_of(grey))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_equal_channels_are_looked_at_once(
    bundled: Segmenter, monkeypatch: pytest.MonkeyPatch, dtype: type[np.generic]
) -> None:
    grey = (FIELD.astype(np.float64) * (1 if dtype is np.uint8 else 7.3)).astype(dtype)
    colour = np.dstack([grey] * 3)
    found = [bundled.segment(image) for image in (grey, colour)]
    monkeypatch.setattr(choice, "as_grey", lambda plane: plane)
    found.append(bundled.segment(colour))
    for one in found[1:]:
        np.testing.assert_array_equal(one.labels, found[0].labels)
        np.testing.assert_array_equal(one.scores, found[0].scores)
        assert one.evidence.contrast == found[0].evidence.contrast
        assert one.evidence.appearance == found[0].evidence.appearance
        assert one.evidence.sharpness == pytest.approx(found[0].evidence.sharpness, rel=1e-12)
    assert found[1].evidence == found[0].evidence


def test_what_was_looked_at_is_not_read_again_to_be_measured(bundled: Segmenter) -> None:
    plane, regions = watched(plane_of(FIELD))
    eye = Eye(plane, bundled.network, Budget(plane, None, bundled.network), 1024)
    eye.look(AS_IT_IS)
    regions.clear()
    assert eye.evidence(AS_IT_IS, 0.8).sharpness is not None
    assert regions == []


def test_what_is_known_of_an_image_is_said_of_every_view(bundled: Segmenter) -> None:
    """Whether the view was chosen or fixed."""
    known = bundled.segment(FIELD).evidence
    assert known.expected_ap is not None
    assert known.sharpness is not None
    assert known.size == pytest.approx(1, rel=0.2)
    assert known.saturation is not None
    assert known.saturation < 0.2
    assert known.appearance is not None
    assert Segmenter(threads=1, view=View()).segment(FIELD).evidence == known
    blank = bundled.segment(np.zeros_like(FIELD))
    assert (blank.evidence.appearance, blank.evidence.size, blank.flags) == (None, None, (Flag.BLANK,))


def test_a_label_image_and_a_mask_are_no_images(bundled: Segmenter) -> None:
    labels = fluorescence_field(0, height=160, width=192)[1]
    assert Flag.FLAT in bundled.segment(labels.astype(np.uint16)).flags
    assert Flag.FLAT in bundled.segment(np.where(labels > 0, np.uint8(255), np.uint8(0))).flags
    assert Flag.FLAT not in bundled.segment(FIELD).flags


def test_a_poor_image_is_flagged_and_so_is_one_without_nuclei(bundled: Segmenter) -> None:
    demanding = Segmenter(threads=1, min_quality=1.0)
    assert Flag.LOW_EXPECTED_AP in demanding.segment(FIELD).flags
    found = bundled.segment(np.repeat(np.uint8([0, 200]), 100)[np.newaxis].repeat(200, axis=0))  # dark, then bright
    assert found.count == 0
    assert Flag.NOTHING_FOUND in found.flags
    assert Flag.LOW_EXPECTED_AP not in found.flags


def test_the_evidence_of_a_large_plane_is_that_of_its_squares(curious: Network) -> None:
    """So it does not depend on the blocks."""
    image, _ = fluorescence_field(6, height=330, width=620, n_nuclei=40)
    found = [next(segment_plane(plane_of(image), curious, grid=Grid(core, 64))).evidence for core in (256, 1024)]
    assert found[0] == found[1]
    assert found[0].appearance is not None
