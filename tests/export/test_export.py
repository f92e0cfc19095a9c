"""From a finished training to one file that contains everything needed to run it, by the command and from Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from nuclei_export.cli import export_main
from nuclei_export.convert import graph_digest, load_checkpoint
from nuclei_export.errors import EvaluationFileError, RunFolderError
from nuclei_export.export import ExportConfig, export
from nuclei_runtime.checks.sample import read_sample, replay_sample, sample_path
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import CardError
from nuclei_runtime.model.card import METADATA_KEY, ModelCard, parse_card
from nuclei_runtime.model.session import load_session
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.preprocess import preprocess
from nuclei_runtime.steps.resize import resize
from nuclei_train.data.finding import open_data
from nuclei_train.evaluation.evaluate import EvaluationConfig, evaluate

RunMain = Callable[..., tuple[int, str, str]]


def config(run: Path, model: Path, **changes: Any) -> ExportConfig:
    """Return the configuration of the command when only the two paths are given."""
    named = ExportConfig(run, model, 18, "nuclei-unet", "1.0.0", "BSD-3-Clause", None)
    return replace(named, **changes)


def read_run(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))


def change_run(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = read_run(run)
    change(content)
    (run / "run.json").write_text(json.dumps(content), encoding="utf-8")


def embedded_card(model: Path) -> ModelCard:
    (entry,) = onnx.load(model).metadata_props
    assert entry.key == METADATA_KEY
    return parse_card(entry.value, str(model))


def test_the_command_writes_three_files_and_says_what_they_are_worth(exported: Path) -> None:
    names = ["nuclei.onnx", "nuclei.report.md", "nuclei.sample.npz"]
    assert sorted(path.name for path in exported.parent.iterdir()) == names
    first, second = (exported.parents[1] / "stdout.txt").read_text(encoding="utf-8").splitlines()
    assert first.startswith(f"{exported}: ONNX Runtime and Keras differ by at most ")
    assert first.endswith(" (tolerance 0.0001)")
    assert second == f"report: {exported.with_name('nuclei.report.md')}"
    assert (exported.parents[1] / "stderr.txt").read_text(encoding="utf-8") == ""  # no lint, no messages of TensorFlow


def test_the_card_is_what_the_run_says(exported: Path, finished_run: Path) -> None:
    card, run = embedded_card(exported), read_run(finished_run)
    document = json.loads(card.to_json())
    of_run = {**run["export"]["card"], "provenance": document["provenance"]}
    assert {key: document[key] for key in of_run} == of_run
    assert run["export"]["card"]["provenance"].items() <= card.provenance.items()
    assert (card.name, card.version, card.license) == ("nuclei-unet", "1.0.0", "BSD-3-Clause")
    assert card.evaluation == ()
    checkpoint = hashlib.sha256((finished_run / "best.keras").read_bytes()).hexdigest()
    expected = {
        "recipe": "baseline",
        "seed": "42",
        "training_data": "stage1_train, split random",
        "training_data_sha256": run["data_digests"]["train"],
        "validation_data_sha256": run["data_digests"]["val"],
        "split_sha256": run["split"]["digest"],
        "checkpoint_sha256": checkpoint,
        "graph_sha256": graph_digest(onnx.load(exported)),
    }
    assert expected.items() <= card.provenance.items()
    assert f"keras {run['versions']['keras']}" in card.provenance["trained_with"]
    assert card.provenance["exported_with"].endswith("opset 18")


def test_the_same_run_gives_the_same_bytes(exported: Path, finished_run: Path, tmp_path: Path) -> None:
    """Even in another process: the first export was made by the command."""
    result = export(config(finished_run, tmp_path / "nuclei.onnx"))
    for name in ("nuclei.onnx", "nuclei.report.md", "nuclei.sample.npz"):
        assert (tmp_path / name).read_bytes() == (exported.parent / name).read_bytes(), name
    assert result.card == embedded_card(exported)
    assert 0 < result.difference < 1e-5
    assert result.findings == []


def test_opset_17_is_another_graph_that_computes_the_same(exported: Path, finished_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "older.onnx"
    result = export(config(finished_run, path, opset=17, name="older", version="0.9", license="CC0-1.0"))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [17]
    card = embedded_card(path)
    assert card == result.card
    assert (card.name, card.version, card.license) == ("older", "0.9", "CC0-1.0")
    assert card.provenance["graph_sha256"] != embedded_card(exported).provenance["graph_sha256"]
    batch = np.random.default_rng(0).random((2, 128, 128, 3), dtype=np.float32)
    np.testing.assert_allclose(load_session(path).run(batch), load_session(exported).run(batch), atol=1e-6)


def test_the_sample_replays_and_shows_something(exported: Path) -> None:
    segmenter = Segmenter(exported)
    replay = replay_sample(segmenter, sample_path(exported))
    assert replay.ok
    assert replay.difference == 0  # the same machine, the same build
    sample = read_sample(sample_path(exported))
    assert sample.image.shape[:2] == (200, 264)
    assert sample.labels.max() >= 3
    assert sample.maps.shape == (200, 264, 1)
    assert sample.maps.min() < 0.1
    assert sample.maps.max() > 0.9


def test_the_segmenter_gives_what_keras_gives(exported: Path, finished_run: Path, training_data: Path) -> None:
    """On images of the training data, of other sizes than the network's and not square."""
    keras_model = load_checkpoint(finished_run / "best.keras")
    segmenter = Segmenter(exported)
    images = [sample.read_image() for sample in open_data(training_data)[0].samples[:3]]
    images.append(fluorescence_field(7, height=150, width=90)[0])
    inputs = np.stack([preprocess(image, segmenter.card.preprocessing) for image in images])
    expected = keras_model.predict(inputs, verbose=0)
    found = 0
    for image, small, maps in zip(images, expected, segmenter.predict(images), strict=True):
        height, width = image.shape[:2]
        resized = resize(small, height=height, width=width)
        np.testing.assert_allclose(maps, resized, atol=segmenter.card.tolerance)
        labels = segmenter.segment(image).labels
        np.testing.assert_array_equal(labels > 0, find_instances(resized, segmenter.card.postprocessing) > 0)
        found += int(labels.max())
    assert found > 5


def test_the_report_can_be_read(exported: Path) -> None:
    text = exported.with_name("nuclei.report.md").read_text(encoding="utf-8")
    card = embedded_card(exported)
    for line in (
        "# nuclei-unet 1.0.0",
        "| parameters | 1,941,105 |",
        "| compute | 92.5 kFLOP per pixel of the network's input |",
        "| input | `image: float32 (batch, 128, 128, 3)` |",
        "| output | `foreground: float32 (batch, 128, 128, 1)` |",
        "| opset | 18 |",
        f"| graph sha256 | {card.provenance['graph_sha256']} |",
        "Nothing found.",
        "None yet: run nuclei-evaluate, then export again with --evaluation.",
        f"- {card.limitations[0]}",
    ):
        assert line in text.splitlines(), line
    assert "Tolerance 0.0001, largest difference " in text
    assert text.count("x 128 x 128 x 3 |") == 8


def test_the_scores_of_this_graph_go_into_the_card(
    exported: Path, finished_run: Path, make_dsb_zip: Callable[..., Path], tmp_path: Path
) -> None:
    data, out = make_dsb_zip(tmp_path / "stage1_train.zip", range(3)), tmp_path / "evaluation"
    evaluate(EvaluationConfig(data, out, exported, None, ()), lambda _: None, lambda _done, _total: None)
    path = tmp_path / "nuclei.onnx"
    result = export(config(finished_run, path, evaluation=out / "evaluation.json"))
    document = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    scores = [asdict(score) for score in embedded_card(path).evaluation]
    assert scores == document["card_evaluation"] != []
    assert result.card.provenance == embedded_card(exported).provenance  # the graph is the same
    text = result.report.read_text(encoding="utf-8")
    for score in result.card.evaluation:
        assert f"| {score.dataset} | {score.metric} | {score.value:.4f} |" in text

    of_another_graph, with_another_threshold, with_views, with_a_failure = (deepcopy(document) for _ in range(4))
    of_another_graph["model"]["graph_sha256"] = "0" * 64
    with_another_threshold["model"]["postprocessing"]["kwargs"]["threshold"] += 0.1
    with_views["model"]["views"] = {"trigger": 0.8}
    with_a_failure["failed"].append({"set": "stage1_train", "image_id": "a", "reason": "is damaged"})
    for other, message in (
        (of_another_graph, "its scores are of graph 000000000000, but this run gives graph"),
        (with_another_threshold, r"are of a model with the postprocessing .*, but this run has .*; evaluate .* again"),
        (with_views, r"are of a model with the views \{'trigger': 0\.8\}, but this run has None"),
        (with_a_failure, "1 image could not be scored, expected none; fix them"),
    ):
        (out / "evaluation.json").write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(EvaluationFileError, match=message):
            export(config(finished_run, tmp_path / "other.onnx", evaluation=out / "evaluation.json"))
    assert not list(tmp_path.glob("other*"))


@pytest.mark.parametrize("content", [None, "{", '{"model": {"graph_sha256": null}}'])
def test_a_file_that_is_not_an_evaluation_is_refused_with_a_message(
    finished_run: Path, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "evaluation.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        EvaluationFileError, match=r"evaluation\.json: not an evaluation\.json written by nuclei-evaluate"
    ):
        export(config(finished_run, tmp_path / "m.onnx", evaluation=path))
    assert not list(tmp_path.glob("m.*"))


def test_above_the_tolerance_nothing_is_written(copied_run: Path, run_main: RunMain, tmp_path: Path) -> None:
    """The two runtimes really differ: 1e-12 is below the precision of float32."""
    change_run(copied_run, lambda run: run["export"]["card"].update(tolerance=1e-12))
    out = tmp_path / "out"
    out.mkdir()
    older = {name: f"an older {name}".encode() for name in ("m.onnx", "m.sample.npz", "m.report.md")}
    for name, content in older.items():
        (out / name).write_bytes(content)
    code, printed, err = run_main(export_main, copied_run, out / "m.onnx")
    assert (code, printed) == (3, "")
    assert "ONNX Runtime and Keras differ by " in err
    assert "more than the declared tolerance of 1e-12; nothing was written" in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == older


def spoil(run: Path, how: str) -> None:
    if how == "no folder":
        (run / "run.json").unlink()
        (run / "best.keras").unlink()
        run.rmdir()
    elif how == "no run.json":
        (run / "run.json").unlink()
    elif how == "half a run.json":
        (run / "run.json").write_text((run / "run.json").read_text(encoding="utf-8")[:500], encoding="utf-8")
    elif how == "a list":
        (run / "run.json").write_text("[]")
    elif how == "unfinished":
        change_run(run, lambda content: content.update(status="running"))
    elif how == "no description":
        change_run(run, lambda content: content["export"].pop("card"))
    elif how == "provenance as a list":
        change_run(run, lambda content: content["export"]["card"].update(provenance=[1]))
    elif how == "a checkpoint elsewhere":
        change_run(run, lambda content: content["export"].update(checkpoint="../best.keras"))
    elif how == "no checkpoint":
        (run / "best.keras").unlink()
    else:
        content = (run / "best.keras").read_bytes()
        (run / "best.keras").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("no folder", r"run\.json: missing; give a run folder written by nuclei-train"),
        ("no run.json", r"run\.json: missing; give a run folder written by nuclei-train"),
        ("half a run.json", r"run\.json: cannot be read"),
        ("a list", r"the training is not complete \(status None\)"),
        ("unfinished", r"the training is not complete \(status 'running'\); finish it with nuclei-train --resume"),
        ("no description", r"run\.json: lacks what the model card needs .*'card'"),
        ("provenance as a list", r"run\.json: lacks what the model card needs"),
        ("a checkpoint elsewhere", r"run\.json: lacks .* expected the name of a file in the folder"),
        ("no checkpoint", r"best\.keras: not a checkpoint that Keras can read"),
        ("half a checkpoint", r"best\.keras: not a checkpoint that Keras can read"),
    ],
)
def test_a_run_that_cannot_be_exported_is_a_sentence(copied_run: Path, tmp_path: Path, how: str, expected: str) -> None:
    spoil(copied_run, how)
    with pytest.raises(RunFolderError, match=expected):
        export(config(copied_run, tmp_path / "out" / "m.onnx"))
    assert not (tmp_path / "out").exists()


def test_a_description_that_no_runtime_would_take_is_refused_with_all_its_problems(
    copied_run: Path, tmp_path: Path
) -> None:
    change_run(copied_run, lambda run: run["export"]["card"].update(tolerance=-1, preprocessing=[]))
    with pytest.raises(CardError) as error:
        export(config(copied_run, tmp_path / "out" / "m.onnx"))
    assert len(error.value.problems) == 2
    assert not (tmp_path / "out").exists()


def test_a_description_of_another_graph_is_refused(copied_run: Path, run_main: RunMain, tmp_path: Path) -> None:
    change_run(
        copied_run, lambda run: run["export"]["card"].update(output={"name": "probability", "maps": ["foreground"]})
    )
    code, _, err = run_main(export_main, copied_run, tmp_path / "out" / "m.onnx")
    assert code == 3
    assert "its card says" in err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere", "m.onnx"], "written by nuclei-train"),
        (["nowhere", "model.v2"], "'model.v2'"),
        (["nowhere", "m.onnx", "--opset", "19"], "18"),
        (["nowhere", "."], "is a directory"),
        (["nowhere"], "give the run folder and the ONNX file to write"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], expected: str, run_main: RunMain) -> None:
    code, out, err = run_main(export_main, *arguments)
    assert (code, out) == (2, "")
    assert expected in err
