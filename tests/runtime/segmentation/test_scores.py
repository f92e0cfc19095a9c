"""Each nucleus has its score, in one piece as in blocks, from an earlier process, in a run, and in a pickle."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from nuclei_runtime import Block, ImageValueError, ModelError, Segmenter, plane_of, segment_plane
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer_main
from nuclei_runtime.model.card import METADATA_KEY, parse_card
from nuclei_runtime.segmentation import memory
from nuclei_runtime.segmentation.block_search import Grid
from nuclei_runtime.steps.score import ScoreModel, ScoreWeights, nucleus_signs
from nuclei_runtime.steps.view import AS_IT_IS
from nuclei_runtime.steps.view_choice import Signs, ViewChoice
from tests.contents import read_table

FIELD, _ = fluorescence_field(5, height=230, width=290, n_nuclei=50)
VIEWS = ViewChoice(0.3, Signs(0.0, 0.2, 0.3, 0.0, 0.0), 0.0, 0.0, 0.0)
SCORE = ScoreModel(-4.0, ScoreWeights(peak=0.5, inside=1.0, shared=-6.0, expected_ap=4.0))
SMALL = Grid(core_px=96, margin_px=48, max_margin_px=256)


@pytest.fixture(scope="module")
def scoring(tiled_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiled_model`, with views and a score in its card."""
    model = onnx.load(tiled_model)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = replace(parse_card(entry.value, "tiled"), views=VIEWS, score=SCORE).to_json()
    path = tmp_path_factory.mktemp("scoring") / "scoring.onnx"
    onnx.save(model, path)
    return path


def by_place(blocks: Iterable[Block]) -> dict[tuple[int, int], float]:
    """Return the score of each nucleus by its first pixel."""
    found = {}
    for block in blocks:
        assert block.scores is not None
        numbers = np.unique(block.labels[block.labels > 0])
        assert len(block.scores) == len(numbers)
        for number, score in zip(numbers, block.scores.tolist(), strict=True):
            row, column = np.argwhere(block.labels == number)[0].tolist()
            found[row + block.rows.start, column + block.columns.start] = score
    return found


def test_blocks_give_the_scores_of_the_whole_to_the_bit(scoring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_CORE_PX", 0)  # tiles as in the card, far smaller than the image
    segmenter = Segmenter(scoring, threads=1)
    network = segmenter.network
    whole = segmenter.segment(FIELD)
    assert whole.scores is not None
    assert len(whole.scores) == whole.count > 30
    assert np.unique(whole.scores).size > 10
    (maps,) = segmenter.predict([FIELD])
    assert whole.expected_ap is not None
    np.testing.assert_array_equal(
        whole.scores, SCORE.scores(nucleus_signs(maps, np.array(whole.labels)), whole.expected_ap)
    )
    fixed = Segmenter(scoring, threads=1, view=AS_IT_IS).segment(FIELD)
    np.testing.assert_array_equal(np.asarray(fixed.scores), whole.scores)
    assert fixed.expected_ap == whole.expected_ap

    wide = plane_of(np.tile(FIELD, (1, 2)))
    for weight in (0.0, 4.0):
        card = replace(network.card, score=replace(SCORE, weights=replace(SCORE.weights, expected_ap=weight)))
        one = replace(network, session=replace(network.session, card=card))
        blocks = list(segment_plane(wide, one, grid=SMALL))
        assert len(blocks) == 21
        in_blocks, in_one = by_place(blocks), by_place(segment_plane(wide, one))
        assert set(in_blocks) == set(in_one)
        # Of a plane of several blocks, squares are looked at: another AP is expected of it than of the whole.
        assert (in_blocks == in_one) == (weight == 0)


def test_blocks_that_were_kept_have_their_scores(tmp_path: Path, scoring: Path) -> None:
    network = Segmenter(scoring, threads=1).network
    large = plane_of(np.tile(FIELD[:200], (1, 15)))
    expected = [block.scores for block in segment_plane(large, network)]
    found = segment_plane(large, network, keep=tmp_path / "kept")
    next(found), next(found), found.close()  # type: ignore[attr-defined]
    again = [block.scores for block in segment_plane(large, network, keep=tmp_path / "kept")]
    assert len(again) == len(expected) == 5
    for scores, wanted in zip(again, expected, strict=True):
        assert wanted is not None
        np.testing.assert_array_equal(np.asarray(scores), wanted)


def test_nuclei_below_a_minimum_score_are_left_out(scoring: Path) -> None:
    everything = Segmenter(scoring, threads=1).segment(FIELD)
    assert everything.scores is not None
    middle = float(np.median(everything.scores))
    some = Segmenter(scoring, threads=1, min_score=middle)
    found = some.segment(FIELD)
    is_kept = everything.scores >= middle
    assert 0 < is_kept.sum() < everything.count
    assert (found.count, found.n_left_out) == (is_kept.sum(), (~is_kept).sum())
    np.testing.assert_array_equal(np.asarray(found.scores), everything.scores[is_kept])
    np.testing.assert_array_equal(found.labels > 0, np.isin(everything.labels, np.flatnonzero(is_kept) + 1))
    (maps,) = some.predict([FIELD])
    with pytest.raises(ImageValueError, match="call `segment`"):
        some.find_instances(maps)
    assert Segmenter(scoring, threads=1).find_instances(maps).scores is None


def test_a_model_without_a_score_says_so(tiled_model: Path) -> None:
    assert Segmenter(tiled_model, threads=1).segment(FIELD).scores is None
    with pytest.raises(ModelError, match=r"tiled does not score nuclei, .*--min-score"):
        Segmenter(tiled_model, threads=1, min_score=0.5)


def test_a_result_has_the_column_and_can_be_pickled(scoring: Path) -> None:
    found = Segmenter(scoring, threads=1).segment(FIELD)
    again = pickle.loads(pickle.dumps(found))
    for result in (found, again):
        np.testing.assert_array_equal(result.table(FIELD)["score"], result.scores)
        with pytest.raises(ValueError, match="read-only"):
            result.scores[0] = 1


def test_every_list_of_nuclei_has_the_score(
    tmp_path: Path, scoring: Path, run_main: Callable[..., tuple[int, str, str]]
) -> None:
    Image.fromarray(FIELD).save(tmp_path / "a.png")
    arguments = ("--model", scoring, "--save", "overlays,table,geojson", "--overlay", "colour=score,range=0:1")
    code, _, _ = run_main(infer_main, tmp_path / "a.png", "--out", tmp_path / "out", *arguments)
    assert code == 0
    expected: NDArray[np.float64] | None = Segmenter(scoring, threads=1).segment(FIELD).scores
    assert expected is not None
    assert [float(row["score"]) for row in read_table(tmp_path / "out/nuclei.csv")] == expected.tolist()
    features = json.loads(next((tmp_path / "out/geojson").iterdir()).read_text(encoding="utf-8"))["features"]
    assert [one["properties"]["measurements"]["score"] for one in features] == expected.tolist()

    middle = float(np.median(expected))
    some = run_main(infer_main, tmp_path / "a.png", "--out", tmp_path / "some", *arguments, "--min-score", str(middle))
    assert some[0] == 0
    kept = [float(row["score"]) for row in read_table(tmp_path / "some/nuclei.csv")]
    assert kept == expected[expected >= middle].tolist()
    (image,) = read_table(tmp_path / "some/images.csv")
    assert int(image["n_left_out"]) == len(expected) - len(kept)
    method = json.loads((tmp_path / "some/provenance.json").read_text(encoding="utf-8"))["method"]
    assert method["left_out"]["min_score"] == middle
