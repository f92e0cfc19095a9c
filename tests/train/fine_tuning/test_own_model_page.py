"""docs/own_model.md: every command of the page, in its order, on a few small images."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tifffile

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_train.recipes import registry
from nuclei_train.recipes.fine_tuning import FineTuning

pytestmark = pytest.mark.usefixtures("eager")

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
COMMANDS = [
    line
    for block in re.findall(r"```\n(.*?)\n```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("nuclei-")
]
SHORT = replace(
    FineTuning(), epochs=1, steps_per_epoch=1, batch_size=2, crop_px=96, rounds=2, calibration_batches=1, max_original=1
)

RunMain = Callable[..., tuple[int, str, str]]


def write_fields(folder: Path, seeds: range) -> None:
    folder.mkdir(parents=True)
    for seed in seeds:
        image, _ = fluorescence_field(seed, height=96, width=112, n_nuclei=8)
        tifffile.imwrite(folder / f"field_{seed}.tif", image)


def test_every_command_does_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: RunMain, make_dsb_zip: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "DEFAULT_WITH_START", SHORT)
    monkeypatch.setitem(registry.RECIPES, SHORT.name, SHORT)
    for folder, seeds in (
        ("my_data/images", range(3)),
        ("check_data/images", range(3, 5)),
        ("new_images", range(5, 6)),
    ):
        write_fields(Path(folder), seeds)
    Path("dsb2018").mkdir()
    make_dsb_zip(Path("dsb2018/stage1_train.zip"), range(20, 23), size=(96, 96))
    Path("dsb2018/splits.csv").write_text(
        "image_id,split,modality\nfield_020,train,\nfield_021,train,\nfield_022,val,\n", encoding="utf-8"
    )
    assert {command.split()[0] for command in COMMANDS} == {
        "nuclei-infer",
        "nuclei-measure",
        "nuclei-explore",
        "nuclei-train",
        "nuclei-export",
        "nuclei-evaluate",
        "nuclei-doctor",
    }
    said = {}
    for command in COMMANDS:
        script, *arguments = shlex.split(command)
        module, name = SCRIPTS[script].split(":")
        code, out, err = run_main(getattr(importlib.import_module(module), name), *arguments)
        assert code == 0, f"{command}\n{out}\n{err}"
        said[script] = out + err

    for run, has_original in (("run", False), ("run_with_replay", True)):
        report = Path(run, "before_after.md").read_text(encoding="utf-8")
        assert report.startswith("# Before and after fine-tuning\n\n**")
        assert ("| original data | 1 |" in report) is has_original
    doubt = "Too few images to tell: 3 held-out images are no evidence", "Not better: no fitting gave"
    assert re.search("|".join(doubt), said["nuclei-train"])
    assert re.search("|".join(f"warning: {sentence}" for sentence in doubt), said["nuclei-export"])
    card = Segmenter("model.onnx").card
    assert card.name == "my-nuclei"
    assert card.provenance["recipe"] == "fine-tuning"
    assert "the bundled model" in card.limitations[-1]
    assert card.postprocessing == Segmenter().card.postprocessing
    assert card.views == Segmenter().card.views
    assert card.score == Segmenter().card.score
    assert Path("results/nuclei.csv").is_file()
    assert Path("scores_mine/evaluation.json").is_file()
