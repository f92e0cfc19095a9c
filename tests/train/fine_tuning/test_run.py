"""A small but complete fine-tuning within this process: what it writes, what it keeps, and how it resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.metrics import match
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.steps.flags import FlagLimits
from nuclei_runtime.steps.novelty import Appearance, Familiar
from nuclei_train.cli.train import main as train_main
from nuclei_train.data.finding import open_data, training_set
from nuclei_train.data.split import START_WARNING, split_samples
from nuclei_train.errors import DatasetError, RunFolderError
from nuclei_train.evaluation.keras_network import find_nuclei, keras_network
from nuclei_train.fine_tuning.held_out import Score
from nuclei_train.fine_tuning.run import FineTuningResult, _FineTuning, describe_flags, fine_tune
from nuclei_train.fine_tuning.tuner import Tuner
from nuclei_train.fitting.preparing import TrainingConfig
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.fitting.start import BUNDLED, Start, read_card, read_start
from nuclei_train.recipes import registry
from nuclei_train.recipes.fine_tuning import FineTuning, FineTuningMaterial
from nuclei_train.recipes.native import Native, keep_maps
from nuclei_train.recipes.native_material import LabelledImages
from nuclei_train.recipes.recipe import Sources
from nuclei_train.run_folder import read_run
from tests.train.conftest import Listener

pytestmark = pytest.mark.usefixtures("eager")

SMALL = replace(
    FineTuning(), epochs=2, steps_per_epoch=1, batch_size=2, filters=8, crop_px=96, rounds=2, calibration_batches=1
)
"""For the network of `native_run`."""
STILL = replace(SMALL, learning_rate=0.0, start_share=1.0, epochs=1)
"""Changes nothing. A learning rate of 0 alone would still let the statistics of the normalisations move."""

MakeZip = Callable[..., Path]
RunMain = Callable[..., tuple[int, str, str]]


def weights_of(path: Path) -> list[np.ndarray[Any, Any]]:
    return list(keras.models.load_model(path, compile=False).get_weights())


@pytest.fixture(scope="module")
def data(make_dsb_zip: MakeZip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dsb_zip(tmp_path_factory.mktemp("own") / "own.zip", range(4), size=(64, 80))


@pytest.fixture(scope="module")
def old(make_dsb_zip: MakeZip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data to replay: six images to fit and two to see what was forgotten."""
    path = make_dsb_zip(tmp_path_factory.mktemp("old") / "old.zip", range(20, 28), size=(64, 64))
    rows = [f"field_{seed:03d},{'val' if seed > 25 else 'train'},old" for seed in range(20, 28)]
    path.with_name("splits.csv").write_text("\n".join(["image_id,split,modality", *rows]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(
    data: Path, native_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FineTuningResult, Listener]:
    run, listener = tmp_path_factory.mktemp("tuned") / "run", Listener()
    return run, fine_tune(TrainingConfig(data, run, SMALL, resume=False, start=native_run), listener), listener


def test_the_run_folder_is_complete(done: tuple[Path, FineTuningResult, Listener]) -> None:
    run, result, listener = done
    assert {path.name for path in run.iterdir()} == {
        "run.json",
        "rounds",
        "best.keras",
        "inference.keras",
        "quantisation.npz",
        "sanity_check.png",
        "curves.png",
        "before_after.md",
        "before_after.csv",
    }
    document = read_run(run)
    assert document["status"] == "complete"
    assert document["recipe"]["name"] == "fine-tuning"
    assert document["split"] | {"digest": ""} == {"source": "cross-validation", "digest": "", "train": 4, "val": 0}
    assert document["export"]["quantisation"]["scored_on"] == "the images that were fitted or held out"
    assert document["fine_tuning"] == json.loads(json.dumps(result.outcome.to_dict()))
    assert [one for one in listener.sentences if one.startswith("round")] == [
        "round 1 of 2: 2 images to fit, 2 held out",
        "round 2 of 2: 2 images to fit, 2 held out",
    ]
    assert START_WARNING in listener.sentences  # the images held out in turn may be those that the start was fitted on
    assert sorted(result.outcome.ids) == [f"field_{seed:03d}" for seed in range(4)]
    assert result.outcome.own.n_images == 4


def test_the_card_is_that_of_the_start_apart_from_what_training_knows(
    done: tuple[Path, FineTuningResult, Listener], native_run: Path
) -> None:
    """Four images choose neither the parameters of the watershed nor those of views."""
    run, result, _ = done
    start, card = (read_run(one)["export"]["card"] for one in (native_run, run))
    changed = {"training_nucleus_diameter_px", "description", "limitations", "provenance", "flags"}
    assert {name: card[name] for name in card.keys() - changed} == {
        name: start[name] for name in start.keys() - changed
    }
    assert card["limitations"] == [*start["limitations"], result.outcome.limitation]
    assert card["provenance"]["recipe"] == "fine-tuning"
    assert card["provenance"]["started_from_sha256"]
    assert read_run(run)["export"]["caveats"] == list(result.outcome.sentences)


def test_a_fit_that_gains_nothing_keeps_the_weights_and_the_card_of_the_start(
    data: Path, native_run: Path, tmp_path: Path
) -> None:
    result = fine_tune(TrainingConfig(data, tmp_path / "run", STILL, resume=False, start=native_run), Reporter())
    assert result.outcome.epochs == 0
    for one, other in zip(
        weights_of(native_run / "best.keras"), weights_of(tmp_path / "run" / "best.keras"), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    start, card = (read_run(one)["export"]["card"] for one in (native_run, tmp_path / "run"))
    assert card | {"provenance": {}, "limitations": []} == start | {"provenance": {}, "limitations": []}
    assert card["limitations"][-1].startswith("Fine-tuning did not help: the weights are those of")


def test_a_round_that_is_done_is_not_fitted_again_and_the_result_is_the_same(
    done: tuple[Path, FineTuningResult, Listener], data: Path, tmp_path: Path
) -> None:
    """As after a kill in the second round."""
    whole, result, _ = done
    run, listener = tmp_path / "run", Listener()
    shutil.copytree(whole, run)
    document = read_run(run)
    (run / "run.json").write_text(json.dumps({**document, "status": "running"}), encoding="utf-8")
    (run / "rounds" / "2.json").unlink()
    resumed = fine_tune(TrainingConfig(data, run, SMALL, resume=True), listener)
    assert [one for one in listener.sentences if one.startswith("round")] == [
        "round 2 of 2: 2 images to fit, 2 held out"
    ]
    assert resumed.outcome == result.outcome
    for one, other in zip(weights_of(whole / "best.keras"), weights_of(run / "best.keras"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_images_that_a_table_holds_out_are_never_fitted(
    native_run: Path, tmp_path: Path, make_dsb_zip: MakeZip
) -> None:
    path = make_dsb_zip(tmp_path / "own.zip", range(4), size=(64, 80))
    rows = [f"field_{seed:03d},{'val' if seed == 3 else 'train'}," for seed in range(4)]
    (tmp_path / "splits.csv").write_text("\n".join(["image_id,split,modality", *rows]), encoding="utf-8")
    listener = Listener()
    result = fine_tune(TrainingConfig(path, tmp_path / "run", STILL, resume=False, start=native_run), listener)
    assert "round 1 of 1: 3 images to fit, 1 held out" in listener.sentences
    assert result.outcome.ids == ("field_003",)
    assert result.outcome.n_rounds == 1


def test_replayed_data_are_fitted_and_scored(data: Path, old: Path, native_run: Path, tmp_path: Path) -> None:
    config = TrainingConfig(data, tmp_path / "run", STILL, resume=False, start=native_run, replay=old)
    outcome = fine_tune(config, Reporter()).outcome
    assert outcome.original_ids == ("field_026", "field_027")
    assert outcome.original is not None
    assert outcome.original.difference == 0
    document = read_run(tmp_path / "run")
    assert document["replay"]["data"] == "old"
    assert document["export"]["card"]["provenance"]["replayed_data"] == "old"
    assert document["paths"] == {"start": str(native_run), "replay": str(old)}
    with pytest.raises(RunFolderError, match="cannot resume this run, because it differs from this command in data"):
        fine_tune(replace(config, data=old, replay=data, resume=True), Reporter())


def test_a_start_without_a_card_is_refused(data: Path, native_run: Path, tmp_path: Path) -> None:
    shutil.copy(native_run / "best.keras", tmp_path / "alone.keras")
    config = TrainingConfig(data, tmp_path / "run", SMALL, resume=False, start=tmp_path / "alone.keras")
    with pytest.raises(RunFolderError, match=r"keeps the card of the model that it begins with.* --recipe native"):
        fine_tune(config, Reporter())
    assert not config.run.exists()


def test_a_fine_tuning_without_a_start_leaves_no_run_folder(data: Path, tmp_path: Path) -> None:
    """So that what the message says, to add --start, works."""
    for resume in (False, True):
        config = TrainingConfig(data, tmp_path / "run", SMALL, resume=resume)
        with pytest.raises(RunFolderError, match="needs weights to begin with; add --start bundled"):
            fine_tune(config, Reporter())
        assert not config.run.exists()


def test_one_image_is_refused(native_run: Path, tmp_path: Path, make_dsb_zip: MakeZip) -> None:
    path = make_dsb_zip(tmp_path / "own.zip", range(1), size=(64, 80))
    with pytest.raises(DatasetError, match="expected at least one of each; add images with masks"):
        fine_tune(TrainingConfig(path, tmp_path / "run", SMALL, resume=False, start=native_run), Reporter())


def test_the_command_prints_the_outcome(
    data: Path, native_run: Path, tmp_path: Path, run_main: RunMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "DEFAULT_WITH_START", STILL)
    monkeypatch.setitem(registry.RECIPES, "fine-tuning", STILL)
    code, out, err = run_main(train_main, data, tmp_path / "run", "--start", native_run)
    assert code == 0, err
    assert "Not better: no fitting gave the held-out images a higher mean AP" in out
    assert f"report: {tmp_path / 'run' / 'before_after.md'}\n" in out
    assert "nuclei-export" not in out
    assert "each image is held out in turn" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--recipe", "native", "--replay", "old"), "--replay requires --start and the recipe fine-tuning"),
        (("--start", "bundled", "--search", "2"), "--search requires --recipe native, native-wide or baseline"),
        (("--start", "bundled", "--teacher", "model.onnx"), "--teacher requires --recipe native or native-wide"),
        (("--recipe", "fine-tuning"), "a fine-tuning needs weights to begin with; add --start bundled"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    data: Path, tmp_path: Path, run_main: RunMain, options: tuple[str, ...], expected: str
) -> None:
    code, _, err = run_main(train_main, data, tmp_path / "run", *options)
    assert code != 0
    assert expected in " ".join(err.split())


def test_what_is_scored_is_what_ships() -> None:
    """The checkpoint of the bundled model, run by Keras, finds what the bundled ONNX file finds."""
    recipe, segmenter = Native(), Segmenter()
    model, inference = recipe.build(), recipe.build_inference()
    model.set_weights(read_start(BUNDLED, recipe).weights)
    keep_maps(model.get_weights(), inference)
    image, _ = fluorescence_field(3, height=150, width=180, n_nuclei=12)
    found = find_nuclei(image, keras_network(inference, segmenter.card))
    shipped = segmenter.segment(image).labels
    assert shipped.max() > 5
    assert match(shipped, found).ap().min() == 1.0


def test_the_weights_are_the_means_of_the_fitted_ones_and_those_of_the_start(data: Path, native_run: Path) -> None:
    recipes = [replace(SMALL, start_share=share, epochs=1, steps_per_epoch=3) for share in (0.0, 0.5, 1.0)]
    start = read_start(native_run, SMALL)
    assert start.weights is not None
    split = split_samples(training_set(open_data(data)), None, SMALL.seed, SMALL.validation_fraction)
    material = SMALL.load(SMALL.choose(Sources(split, {}, ())), lambda: None)
    found = []
    for recipe in recipes:
        tuner = Tuner(recipe, start.weights)
        tuner.fit(material.batches(material.to_fit, 0), 1, lambda: False)
        found.append(tuner.model.get_weights())
        np.testing.assert_array_equal(tuner.inference.get_weights()[0], found[-1][0])
    fitted, half, unchanged = found
    assert not np.array_equal(fitted[0], start.weights[0])
    for one, mean, none, old in zip(fitted, half, unchanged, start.weights, strict=True):
        np.testing.assert_allclose(mean, (one + old) / 2, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(none, old)


def test_what_was_fitted_is_scored_with_the_card_that_is_exported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The size of nuclei in the card decides the view: with the start's, another model would be scored."""
    known: list[float] = []

    class Recorder:
        model = inference = SimpleNamespace(save=lambda _path: None)

        def __init__(self, *_: Any) -> None: ...

        def reset(self) -> None: ...

        def fit(self, _batches: Any, epochs: int, _stop: Any, after: Any = lambda _loss: None) -> None:
            for _ in range(epochs):
                after(0.0)

        def score(self, samples: Any, _images: Any, card: ModelCard) -> list[Score]:
            known.append(card.training_nucleus_diameter_px)
            return [Score(1, 1, 0.5, 0.1 * len(known)) for _ in samples]

    monkeypatch.setattr("nuclei_train.fine_tuning.tuner.Tuner", Recorder)
    images = [np.zeros((64, 64, 3), np.uint8)] * 2
    labels = [np.pad(np.ones((36, 36), np.int32), 14)] * 2
    own = LabelledImages(("a", "b"), ("", ""), tuple(images), tuple(labels))
    samples = (None, None)
    material = FineTuningMaterial(own, samples, 1, None, own, samples, SMALL)  # type: ignore[arg-type]
    config = TrainingConfig(tmp_path, tmp_path, SMALL, resume=False)
    start, described = Start(BUNDLED, "00000", []), read_card(BUNDLED)
    prepared = SimpleNamespace(config=config)
    tuning = _FineTuning(prepared, start, described, material, Reporter())  # type: ignore[arg-type]
    outcome = tuning.finish(tuning.hold_out(lambda: False), lambda: False)
    before, after = (
        described["training_nucleus_diameter_px"],
        tuning.describe(outcome).card["training_nucleus_diameter_px"],
    )
    assert after == 40.6
    assert known == [before, after, after, before, after]


def test_images_that_were_fitted_are_familiar() -> None:
    n_numbers = len(fields(Appearance))
    known = Familiar(Appearance(*[4.0] * n_numbers), tuple(map(tuple, np.eye(n_numbers).tolist())))
    limits = FlagLimits(0.5, 0.5, 2.0, 0.1, 0.1, 3.0, known)
    found = describe_flags(limits, [Appearance(*[2.0] * n_numbers)])["flags"]
    assert found["familiar"]["means"]["brightness"] == 3.0
    assert found | {"familiar": None} == asdict(limits) | {"familiar": None}
    assert describe_flags(None, [known.means]) == describe_flags(limits, []) == {}
