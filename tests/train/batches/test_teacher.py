"""A finished model as a teacher: its predictions, what is learned from them, and what run.json says about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ModelError
from nuclei_runtime.metrics import match
from nuclei_train.batches.augment import Augmentation
from nuclei_train.batches.crops import RandomCrops
from nuclei_train.batches.teacher import SHARE, Answer, Teacher
from nuclei_train.data.finding import open_data, training_set
from nuclei_train.data.split import split_samples
from nuclei_train.errors import RunFolderError
from nuclei_train.fitting.fit import TrainingConfig, train
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.recipes.baseline import Baseline
from nuclei_train.recipes.native import Native
from nuclei_train.recipes.recipe import Sources

MakeZip = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("eager")

TINY = replace(Native(), epochs=1, steps_per_epoch=1, batch_size=2, filters=4, crop_px=64, validation_batches=1)
IMAGE, LABELS = fluorescence_field(3, height=120, width=100, n_nuclei=12)


def write_another_model(model: Path, path: Path) -> Path:
    import onnx

    proto = onnx.load(model)
    proto.doc_string = "the same network in another file"
    onnx.save(proto, path)
    return path


def crops(answer: np.ndarray | None, augmentation: Augmentation, share: float = SHARE) -> np.ndarray:
    """Return the maps of some crops for which the teacher gives this answer, which has this share."""
    stream = RandomCrops(
        [np.repeat(IMAGE[..., np.newaxis], 3, axis=-1)],
        [LABELS],
        np.ones(1),
        batch_size=6,
        crop_px=48,
        seed=42,
        first_batch=0,
        augmentation=augmentation,
        answers=[] if answer is None else [Answer(answer, share)],
    )
    return stream[0][1]


def test_it_answers_with_test_time_augmentation(tiled_model: Path) -> None:
    answer = Teacher(tiled_model).answer(IMAGE, LABELS).maps
    assert answer.shape == (120, 100, 3)
    assert answer.dtype == np.uint8
    once, twice = (next(Segmenter(tiled_model, tta=tta).predict([IMAGE])) for tta in (False, True))
    np.testing.assert_allclose(answer / 255, twice, atol=0.5 / 255 + 1e-6)
    assert np.abs(answer / 255 - once).max() > 0.05


def test_an_answer_counts_as_far_as_it_is_right(tiled_model: Path) -> None:
    teacher = Teacher(tiled_model)
    labels = Segmenter(tiled_model, tta=True).segment(IMAGE).labels
    assert labels.max() > 4
    assert teacher.answer(IMAGE, labels).share == SHARE
    half = np.where(labels > labels.max() // 2, labels, 0)
    expected = SHARE * match(half, labels).ap()[0]
    assert 0.1 < expected < 0.4
    assert teacher.answer(IMAGE, half).share == pytest.approx(expected)
    assert teacher.answer(IMAGE, np.zeros_like(labels)).share == 0.0
    truth = crops(None, Augmentation())
    np.testing.assert_array_equal(crops(teacher.answer(IMAGE, labels).maps, Augmentation(), 0.0), truth)


def test_half_of_what_is_learned_is_the_answer() -> None:
    augmentation = Augmentation()
    truth = crops(None, augmentation)
    inside = truth[..., 5] == 1
    for value in (0, 255):
        maps = crops(np.full((*LABELS.shape, 3), value, np.uint8), augmentation)
        np.testing.assert_allclose(maps[..., :3], (truth[..., :3] + value / 255) / 2, atol=1e-6)
        np.testing.assert_array_equal(maps[..., 3:], truth[..., 3:])
    assert inside.any()


def test_the_answer_moves_and_turns_as_the_image_does() -> None:
    """A teacher that predicts the true foreground changes nothing, except at edges, which fall between pixels."""
    answer = np.repeat(np.where(LABELS > 0, 255, 0)[..., np.newaxis], 3, axis=-1).astype(np.uint8)
    for augmentation in (Augmentation(scale=(1.0, 1.0), rotate=False), Augmentation()):
        truth = crops(None, augmentation)
        inside = truth[..., 5] == 1
        right, wrong = (
            np.abs(crops(one, augmentation)[..., 0] - truth[..., 0])[inside].mean() for one in (answer, answer[::-1])
        )
        assert right < 0.02 < 0.1 < wrong


def test_it_teaches_the_fitted_images_and_not_the_validation(training_data: Path, tiled_model: Path) -> None:
    split = split_samples(training_set(open_data(training_data)), None, 42, 0.1)
    alone, taught = (
        TINY.load(TINY.choose(Sources(split, {}, (), teacher)), lambda: None)
        for teacher in (None, Teacher(tiled_model))
    )
    first = Teacher(tiled_model).answer(split.train[0].read_image(), taught.train.labels[0])
    np.testing.assert_array_equal(taught.train.answers[0].maps, first.maps)
    assert taught.train.answers[0].share == first.share
    assert len(taught.train.answers) == len(split.train)
    (images, maps), (taught_images, taught_maps) = alone.batches(0)[0], taught.batches(0)[0]
    np.testing.assert_array_equal(images, taught_images)
    assert np.abs(maps[..., :3] - taught_maps[..., :3]).max() > 0.2
    for one, other in zip(alone.validation, taught.validation, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_says_who_taught_it_and_is_resumed_with_no_other(
    tiled_model: Path, make_dsb_zip: MakeZip, tmp_path: Path
) -> None:
    data, run = make_dsb_zip(tmp_path / "stage1_train.zip", range(8), size=(48, 48)), tmp_path / "run"
    train(TrainingConfig(data, run, TINY, resume=False, teacher=tiled_model), Reporter())
    written = json.loads((run / "run.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(tiled_model.read_bytes()).hexdigest()
    assert written["teacher"] == {"model_sha256": digest, "share": 0.5}
    assert written["paths"] == {"teacher": str(tiled_model)}
    assert written["export"]["card"]["provenance"]["taught_by_sha256"] == digest
    train(TrainingConfig(data, run, TINY, resume=True), Reporter())
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["teacher"] == written["teacher"]
    another = write_another_model(tiled_model, tmp_path / "another.onnx")
    with pytest.raises(RunFolderError, match=r"differs from this command in teacher\.model_sha256"):
        train(TrainingConfig(data, run, TINY, resume=True, teacher=another), Reporter())


@pytest.mark.parametrize(
    ("model", "recipe", "expected"),
    [
        (
            "tiny_model",
            TINY,
            r"tiny\.onnx: takes images of 128 x 128 pixels and gives foreground, but a teacher must",
        ),
        ("tiled_model", replace(Baseline(), epochs=1), "baseline cannot use a teacher; leave --teacher out"),
    ],
)
def test_a_teacher_that_does_not_fit_leaves_no_run(
    model: str, recipe: Any, expected: str, request: pytest.FixtureRequest, make_dsb_zip: MakeZip, tmp_path: Path
) -> None:
    data = make_dsb_zip(tmp_path / "stage1_train.zip", range(8), size=(48, 48))
    teacher = request.getfixturevalue(model)
    with pytest.raises(ModelError, match=expected):
        train(TrainingConfig(data, tmp_path / "run", recipe, resume=False, teacher=teacher), Reporter())
    assert not (tmp_path / "run").exists()
