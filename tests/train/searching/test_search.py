"""A search over settings: what it keeps, resumes, ends early and refuses. The trainings are stood in for by a formula
that a run folder and a reporter see as they see a real one; one search trains for real."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nuclei_train import run_folder
from nuclei_train.cli.searching import what_is_kept
from nuclei_train.cli.train import main
from nuclei_train.errors import DatasetError, DivergedError, RunFolderError
from nuclei_train.fitting.fit import TrainingResult
from nuclei_train.fitting.preparing import TrainingConfig
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.recipes import registry
from nuclei_train.recipes.baseline import Baseline
from nuclei_train.recipes.native import Native
from nuclei_train.searching import search as search_module
from nuclei_train.searching import trial as trial_module
from nuclei_train.searching.search import search
from nuclei_train.searching.space import SPACES

pytest.importorskip("optuna")

EPOCHS = 5


class Trainer:
    """Stands in for a training: the lower the weight decay, the better."""

    def __init__(self, data: str = "a") -> None:
        self.data, self.modalities = data, "a"
        self.configs: list[TrainingConfig] = []
        self.interrupt_at: tuple[int, int] | None = None
        """Number of the training, from 1, and epoch."""

    def __call__(self, config: TrainingConfig, reporter: Reporter) -> TrainingResult:
        self.configs.append(config)
        recipe = config.recipe
        assert isinstance(recipe, Native)
        state = config.run / "epochs.json"
        epochs = json.loads(state.read_text()) if config.resume else []
        assert config.run.exists() == config.resume
        config.run.mkdir(exist_ok=True)
        data = {"data": {"modalities_sha256": self.modalities}, "data_digests": {"train": self.data}}
        run_folder.write_run(config.run, {"backend": "none", **data})
        quality = 1 / (1 + recipe.weight_decay)
        with reporter.fitting():
            for epoch in range(len(epochs) + 1, EPOCHS + 1):
                if (len(self.configs), epoch) == self.interrupt_at:
                    raise KeyboardInterrupt
                row = {"epoch": epoch, "val_loss": 2 - quality + 1 / epoch, "seconds": 6.0}
                epochs.append(row)
                state.write_text(json.dumps(epochs))
                reporter.epoch(row)
        run_folder.write_run(config.run, {"status": "complete", "weight_decay": recipe.weight_decay})
        return TrainingResult(EPOCHS, EPOCHS, {"val": {"mean AP": quality}}, 30.0)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    trainer = Trainer()
    monkeypatch.setattr(trial_module, "train", trainer)

    class History:
        def __init__(self, path: Path) -> None:
            self.history = json.loads((path.parent / "epochs.json").read_text())

    monkeypatch.setattr(trial_module, "read_progress", History)
    monkeypatch.setattr(search_module, "draw_trials", lambda *_: None)
    return trainer


def config(folder: Path, *, resume: bool = False, recipe: Native | Baseline | None = None) -> TrainingConfig:
    return TrainingConfig(folder / "data", folder / "run", recipe or replace(Native(), epochs=EPOCHS), resume)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "run/trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def decays(trainer: Trainer) -> list[float]:
    return [one.recipe.weight_decay for one in trainer.configs]  # type: ignore[attr-defined]


def test_every_recipe_that_trains_from_the_beginning_can_be_searched() -> None:
    assert set(SPACES) == set(registry.RECIPES) - {registry.DEFAULT_WITH_START.name}


def test_the_best_of_all_trials_is_kept_and_the_first_has_the_recipes_own_settings(
    tmp_path: Path, trainer: Trainer
) -> None:
    found = search(config(tmp_path), 9, Reporter())
    assert len(trainer.configs) == len(found.trials) == 9
    assert SPACES["native"].values_of(trainer.configs[0].recipe) == SPACES["native"].values_of(Native())
    kept = json.loads((tmp_path / "run/best/run.json").read_text())["weight_decay"]
    assert (
        kept
        == found.best.values["weight_decay"]
        == min(decay for decay, one in zip(decays(trainer), found.trials, strict=True) if one.score is not None)
    )
    assert kept < Native().weight_decay
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"best", "study.db", "trials.csv"}


@pytest.mark.usefixtures("trainer")
def test_trials_that_are_worse_than_the_median_end_early_and_the_table_says_so(tmp_path: Path) -> None:
    search(config(tmp_path), 10, Reporter())
    rows = table(tmp_path)
    ended = [row for row in rows if row["status"] == "ended early"]
    assert 0 < len(ended) < 10
    for row in ended:
        assert row["mean AP"] == ""
        assert 1 < int(row["epochs"]) < EPOCHS  # not before the learning rate has risen
        better = [one for one in rows if float(one["weight_decay"]) < float(row["weight_decay"])]
        assert len(better) > 1
    done = [row for row in rows if row["status"] == "complete"]
    assert [float(row["mean AP"]) for row in done] == pytest.approx(
        [1 / (1 + float(row["weight_decay"])) for row in done], rel=1e-4
    )
    assert all(row["epochs"] == str(EPOCHS) and row["minutes"] == "0.5" for row in done)


def test_an_interrupted_search_goes_on_within_the_trial_and_becomes_the_same(tmp_path: Path, trainer: Trainer) -> None:
    trainer.interrupt_at = (3, 4)
    with pytest.raises(KeyboardInterrupt):
        search(config(tmp_path), 6, Reporter())
    assert len(table(tmp_path)) == 2
    found = search(config(tmp_path, resume=True), 6, Reporter())
    assert len(found.trials) == 6
    assert trainer.configs[3] == replace(trainer.configs[2], resume=True)
    assert len(set(decays(trainer))) == 6  # none is tried twice
    assert [row["trial"] for row in table(tmp_path)] == ["1", "2", "3", "4", "5", "6"]
    third = table(tmp_path)[2]
    assert (third["status"], third["epochs"], third["minutes"]) == ("complete", "5", "0.5")
    n_trained = len(trainer.configs)
    assert search(config(tmp_path, resume=True), 6, Reporter()).best == found.best
    assert len(trainer.configs) == n_trained
    assert len(search(config(tmp_path, resume=True), 8, Reporter()).trials) == 8


def test_oddities_that_were_accepted_are_accepted_in_later_trials(tmp_path: Path, trainer: Trainer) -> None:
    search(replace(config(tmp_path), accept_oddities=True), 1, Reporter())
    search(config(tmp_path, resume=True), 2, Reporter())
    assert [one.accept_oddities for one in trainer.configs] == [True, True]


def test_a_search_is_not_mixed_with_another(tmp_path: Path, trainer: Trainer) -> None:
    search(config(tmp_path), 2, Reporter())
    with pytest.raises(RunFolderError, match="already contains a search; add --resume"):
        search(config(tmp_path), 3, Reporter())
    with pytest.raises(RunFolderError, match=r"differs from this command in recipe\.epochs \(5 in the run, 6 in"):
        search(config(tmp_path, resume=True, recipe=replace(Native(), epochs=6)), 3, Reporter())
    trainer.data = trainer.modalities = "b"
    with pytest.raises(RunFolderError, match=r"command in data\.data\.modalities_sha256 .*, data\.data_digests\.train"):
        search(config(tmp_path, resume=True), 3, Reporter())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty and no search"):
        search(replace(config(tmp_path), run=tmp_path / "other"), 3, Reporter())


def test_after_an_error_before_the_first_epoch_the_same_command_works(
    tmp_path: Path, trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> TrainingResult:
        raise DatasetError("no masks")

    monkeypatch.setattr(trial_module, "train", refuse)
    with pytest.raises(DatasetError):
        search(config(tmp_path), 2, Reporter())
    monkeypatch.setattr(trial_module, "train", trainer)
    assert len(search(config(tmp_path), 2, Reporter()).trials) == 2


def test_a_loss_that_is_no_number_ends_the_trial_not_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(one: TrainingConfig, reporter: Reporter) -> TrainingResult:  # noqa: ARG001
        one.run.mkdir()
        raise DivergedError

    monkeypatch.setattr(trial_module, "train", diverge)
    with pytest.raises(RunFolderError, match=r"no trial was completed; see .*trials\.csv"):
        search(config(tmp_path), 2, Reporter())
    assert [row["status"] for row in table(tmp_path)] == ["ended early"] * 2


@pytest.mark.parametrize("recipe", [Native(), Baseline()])
def test_each_value_reaches_its_place_in_the_recipe(recipe: Native | Baseline) -> None:
    space = SPACES[recipe.name]
    assert space.with_values(recipe, space.values_of(recipe)) == recipe
    for name, one in space.ranges.items():
        assert one.low <= space.values_of(recipe)[name] <= one.high
        for value in (one.low, one.high):
            changed = space.with_values(recipe, {**space.values_of(recipe), name: value})
            assert space.values_of(changed) == {**space.values_of(recipe), name: value}


@pytest.mark.usefixtures("eager")
@pytest.mark.usefixtures("eager")
def test_a_real_search_leaves_a_run_to_export_and_says_what_it_found(
    tmp_path: Path,
    make_dsb_zip: Callable[..., Path],
    run_main: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry.RECIPES, "baseline", replace(Baseline(), size_px=32))
    data = make_dsb_zip(tmp_path / "data.zip", range(20))
    command = [data, tmp_path / "run", "--recipe", "baseline", "--epochs", 1, "--search"]
    code, out, err = run_main(main, *command, 1)
    assert code == 0, err
    assert "trial 1 of 1: learning_rate 0.001, batch_size 16" in err
    assert "is the best of 1 trial: loss" in out
    assert f"next: nuclei-export {tmp_path / 'run/best'} model.onnx" in out
    assert run_folder.read_run(tmp_path / "run/best")["status"] == "complete"
    assert (tmp_path / "run/search.png").is_file()
    # What the search began with need not be given again.
    code, out, _ = run_main(main, data, tmp_path / "run", "--search", 2, "--resume")
    assert code == 0
    assert "the best of 2 trials" in out
    assert len(table(tmp_path)) == 2


def test_what_a_stopped_search_keeps_is_said_with_how_to_go_on(tmp_path: Path, trainer: Trainer) -> None:
    trainer.interrupt_at = (2, 3)
    with pytest.raises(KeyboardInterrupt):
        search(config(tmp_path), 6, Reporter())
    kept = what_is_kept(Path("data"), tmp_path / "run", 6)
    assert kept.startswith(f"1 trial and the complete epochs of the next are kept in {tmp_path / 'run'}; to resume: ")
    assert kept.endswith(f"nuclei-train data {tmp_path / 'run'} --search 6 --resume")
