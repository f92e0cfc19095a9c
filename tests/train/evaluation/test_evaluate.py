"""nuclei-evaluate as installed, on synthetic zips and a real ONNX session; its sets and its statistics."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.metrics import Matching, PixelScores, match, mean_image_ap, pooled_ap, score_pixels
from nuclei_runtime.model.card import parse_card
from nuclei_train.cli.evaluate import main as evaluate_main
from nuclei_train.data.finding import open_data
from nuclei_train.data.samples import Sample
from nuclei_train.data.split_table import read_split_table
from nuclei_train.errors import DatasetError
from nuclei_train.evaluation.evaluate import EvaluationConfig, evaluate
from nuclei_train.evaluation.kaggle import EncodedMask, decode_labels, read_masks, write_submission
from nuclei_train.evaluation.scores import ImageScores, summarise
from nuclei_train.evaluation.sets import find_sets

SPLITS = {0: "train", 1: "train", 2: "train", 3: "val", 4: "val", 5: "test"}


def run_cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command within this process, which saves importing pandas and Matplotlib again."""
    out, err = io.StringIO(), io.StringIO()
    command = ["nuclei-evaluate", *map(str, arguments)]
    with patch("sys.argv", command), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
        evaluate_main()
    assert isinstance(exit_.value.code, int)
    return subprocess.CompletedProcess(command, exit_.value.code, out.getvalue(), err.getvalue())


def read_report(out: Path) -> Any:
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))


def read_rows(out: Path) -> list[dict[str, str]]:
    with (out / "image_scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def ignore(*_: object) -> None:
    pass


@pytest.fixture
def data(tmp_path: Path, make_dsb_zip: Callable[..., Path], make_label_zip: Callable[..., Path]) -> Path:
    """All three zips, with a table of splits."""
    folder = tmp_path / "data"
    folder.mkdir()
    make_dsb_zip(folder / "stage1_train.zip", SPLITS)
    make_dsb_zip(folder / "stage1_test.zip", [30, 31], with_masks=False)
    make_label_zip(folder / "stardist_test.zip", [20, 21])
    rows = [f"field_{seed:03d},{split},{'odd' if seed == 1 else 'even'}" for seed, split in SPLITS.items()]
    (folder / "splits.csv").write_text("\n".join(["image_id,split,modality", *rows]) + "\n", encoding="utf-8")
    return folder


def samples_of(data: Path, name: str) -> dict[str, Sample]:
    (dataset,) = (dataset for dataset in open_data(data) if dataset.name == name)
    return {sample.image_id: sample for sample in dataset.samples}


def test_every_set_is_scored(
    data: Path, tiny_model: Path, tmp_path: Path, run_here: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    out = tmp_path / "out"
    done = run_here("nuclei-evaluate", data, "--model", tiny_model, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar in a pipe

    report = read_report(out)
    assert report["schema_version"] == 1
    assert report["model"]["name"] == "tiny"
    assert report["model"]["graph_sha256"] == "none"
    assert report["split_sha256"] == hashlib.sha256((data / "splits.csv").read_bytes()).hexdigest()
    assert report["failed"] == []
    sets = {found["name"]: found for found in report["sets"]}
    assert {name: found["n_images"] for name, found in sets.items()} == {
        "stage1_test": 2,
        "stage1_train/train": 3,
        "stage1_train/val": 2,
        "stage1_train/test": 1,
        "stardist_test": 2,
    }
    assert sets["stage1_test"]["has_truth"] is False
    assert sets["stage1_test"]["scores"] is None
    assert sets["stage1_test"]["n_predicted"] > 0
    assert set(sets["stage1_train/train"]["modalities"]) == {"odd", "even"}
    assert sets["stage1_train/train"]["modalities"]["even"]["n_images"] == 2
    assert set(sets["stardist_test"]["modalities"]) == {"fluorescence"}  # not in the table: guessed

    # The same scores from the runtime and the metrics directly.
    segmenter = Segmenter(tiny_model)
    samples = samples_of(data, "stage1_train")
    val = [samples["field_003"], samples["field_004"]]
    matchings, pixels = [], []
    for sample in val:
        image, truth = sample.read_image(), sample.read_labels()
        matchings.append(match(truth, segmenter.segment(image).labels))
        (maps,) = segmenter.predict([image])
        pixels.append(score_pixels(truth > 0, maps[..., 0], 0.5))
    scores = sets["stage1_train/val"]["scores"]
    assert scores["ap_pooled"] == pooled_ap(matchings).tolist()
    assert scores["ap_mean_over_images"] == mean_image_ap(matchings).tolist()
    assert scores["ap_50_pooled"] == scores["ap_pooled"][0]
    assert scores["mean_ap"] == pytest.approx(mean_image_ap(matchings).mean())
    assert scores["dice"] == pytest.approx(np.mean([p.dice for p in pixels]))
    assert scores["loss"] == pytest.approx(np.mean([p.loss for p in pixels]))
    assert 0.3 < scores["ap_50_pooled"] < 1.0  # the fields are easy, but touching nuclei are not separated
    digests = "".join(sample.digest() for sample in val)
    assert sets["stage1_train/val"]["digest"] == hashlib.sha256(digests.encode()).hexdigest()

    # One row per image.
    rows = read_rows(out)
    assert len(rows) == 10
    (row,) = (row for row in rows if row["set"] == "stage1_train/val" and row["image_id"] == "field_003")
    assert int(row["n_true"]) == matchings[0].n_true
    assert int(row["n_predicted"]) == matchings[0].n_predicted
    assert float(row["ap_50"]) == pytest.approx(matchings[0].ap()[0], abs=1e-6)
    assert float(row["accuracy"]) == pytest.approx(pixels[0].accuracy, abs=1e-6)
    unscored = [row for row in rows if row["set"] == "stage1_test"]
    assert [row["n_true"] + row["ap_50"] + row["loss"] for row in unscored] == ["", ""]
    assert sum(int(row["n_predicted"]) for row in unscored) == sets["stage1_test"]["n_predicted"]

    # The scores for the model card are valid in a card.
    card = json.loads(Segmenter(tiny_model).card.to_json())
    parsed = parse_card(json.dumps({**card, "evaluation": report["card_evaluation"]}), "test")
    assert len(parsed.evaluation) == 4 * 6  # sets with truth, metrics
    values = {(score.dataset, score.metric): score.value for score in parsed.evaluation}
    assert values["stage1_train/val", "AP@0.5 pooled"] == scores["ap_50_pooled"]
    assert values["stage1_train/val", "mean AP"] == scores["mean_ap"]

    # Pictures of the sets with truth, the submission of the one without, and a table that is not too wide.
    splits = ("train", "val", "test", "stardist_test")
    pictures = {f"{kind}_{split}.png" for kind in ("samples", "worst", "modalities") for split in splits}
    files = {"evaluation.json", "image_scores.csv", "submission_stage1_test.csv"}
    assert {path.name for path in out.iterdir()} == pictures | files
    with Image.open(out / "samples_train.png") as picture:
        assert picture.width > picture.height * 0.5
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 100  # something is drawn
    tables, _, last = done.stdout.rpartition("\n\n")
    assert max(map(len, tables.splitlines())) <= 100
    assert last == f"Report, scores of each image and figures: {out}\n"
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("stage1_train/val") and "%" in line)
    assert f"{scores['ap_50_pooled']:.3f}" in line.split()
    assert f"{scores['ap_50_mean_over_images']:.3f}" in line.split()


def test_bad_images_are_listed_and_the_rest_is_scored(
    tmp_path: Path, make_dsb_zip: Callable[..., Path], tiny_model: Path
) -> None:
    good = make_dsb_zip(tmp_path / "good.zip", range(5))
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "mixed.zip", "w") as mixed:
        for name in source.namelist():
            content = source.read(name)
            if name == "field_000/images/field_000.png":
                content = content[: len(content) // 2]
            elif name.startswith("field_001/masks/"):
                buffer = io.BytesIO()
                Image.new("L", (64, 64), 255).save(buffer, format="PNG")
                content = buffer.getvalue()
            elif name.startswith("field_002/masks/"):
                continue
            mixed.writestr(name, content)
    out = tmp_path / "out"
    done = run_cli(tmp_path / "mixed.zip", "--model", tiny_model, "--out", out)
    assert done.returncode == 1
    report = read_report(out)
    reasons = {failure["image_id"]: failure["reason"] for failure in report["failed"]}
    assert list(reasons) == ["field_000", "field_001", "field_002"]
    assert "the image is 96 x 128 pixels and its masks are 64 x 64" in reasons["field_001"]
    assert "has no masks" in reasons["field_002"]
    first, *failed = done.stderr.splitlines()
    assert first.endswith("images without an annotation: 1 of 5 (field_002/images/field_002.png)")
    assert [line.split(":")[1] for line in failed] == [f" mixed, {name}" for name in reasons]
    (found,) = report["sets"]
    assert found["n_images"] == found["scores"]["n_images"] == 2
    assert [row["image_id"] for row in read_rows(out)] == ["field_003", "field_004"]
    assert report["split_sha256"] is None
    assert {score["dataset"] for score in report["card_evaluation"]} == {"mixed (training images may be among them)"}
    assert "some of them may be in\nmixed. The scores there may be too good." in done.stdout


def test_all_images_bad(tmp_path: Path, make_dsb_zip: Callable[..., Path], tiny_model: Path) -> None:
    path = make_dsb_zip(tmp_path / "good.zip", [0])
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        for name in source.namelist():
            bad.writestr(name, b"" if "/images/" in name else source.read(name))
    out = tmp_path / "out"
    done = run_cli(tmp_path / "bad.zip", "--model", tiny_model, "--out", out)
    assert done.returncode == 1
    assert done.stderr == "not scored: bad, field_000: the file is empty (0 bytes)\n"
    report = read_report(out)
    assert report["sets"][0]["scores"] is None
    assert report["card_evaluation"] == []


def test_submission_read_back_as_truth_is_perfect(
    tmp_path: Path, make_dsb_zip: Callable[..., Path], tiny_model: Path
) -> None:
    path = make_dsb_zip(tmp_path / "stage1_test.zip", [3, 4], with_masks=False)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_cli(path, "--model", tiny_model, "--out", first).returncode == 0
    submission = first / "submission_stage1_test.csv"
    done = run_cli(path, "--model", tiny_model, "--out", second, "--truth", submission)
    assert done.returncode == 0, done.stderr
    (unscored,), (scored,) = read_report(first)["sets"], read_report(second)["sets"]
    assert unscored["scores"] is None
    assert scored["scores"]["n_true"] == unscored["n_predicted"] > 0
    assert scored["scores"]["ap_pooled"] == [1.0] * 10
    assert scored["scores"]["mean_ap"] == 1.0
    assert scored["scores"]["count_error"] == 0.0
    assert scored["digest"] != unscored["digest"]  # the digest also covers the truth
    assert (second / "samples_stage1_test.png").is_file()
    assert not (second / "submission_stage1_test.csv").exists()


def test_truth_csv_with_a_bad_row_and_without_an_image(
    tmp_path: Path, make_dsb_zip: Callable[..., Path], tiny_model: Path
) -> None:
    path = make_dsb_zip(tmp_path / "stage1_test.zip", [3, 4, 5], with_masks=False)
    truth = tmp_path / "truth.csv"
    write_submission(truth, [("field_003", np.ones((96, 128), np.int32))])
    with truth.open("a", encoding="utf-8") as file:
        file.write("field_004,1 2 3\n")
    config = EvaluationConfig(path, tmp_path / "out", tiny_model, truth, ())
    progress: list[tuple[int, int]] = []
    report = evaluate(config, ignore, lambda done, total: progress.append((done, total)))
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert [(failure.image_id, failure.reason) for failure in report.failures] == [
        ("field_004", "EncodedPixels in line 3: expected pairs of start and length, found 3 numbers; fix that row"),
        ("field_005", "has no masks, expected at least one; add masks or leave the image out"),
    ]
    (found,) = report.sets
    assert found.scores is not None
    assert (found.scores.n_images, found.scores.n_true) == (1, 1)


def test_masks_come_before_the_truth_csv(tmp_path: Path, make_dsb_zip: Callable[..., Path], tiny_model: Path) -> None:
    path = make_dsb_zip(tmp_path / "own.zip", [3])
    truth = tmp_path / "truth.csv"
    write_submission(truth, [("field_003", np.zeros((96, 128), np.int32))])
    with pytest.raises(DatasetError, match="lists no image that lacks truth"):
        evaluate(EvaluationConfig(path, tmp_path / "out", tiny_model, truth, ()), ignore, ignore)


def test_a_split_table_of_the_former_name_is_used_and_mentioned(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    former = (data / "splits.csv").rename(data / "images.csv")
    done = run_cli(data, "--model", tiny_model, "--out", tmp_path / "out", "--split", "val")
    assert done.returncode == 0
    assert done.stderr == f"{former}: used as the split table, whose name is now splits.csv\n"
    assert [found["name"] for found in read_report(tmp_path / "out")["sets"]] == ["stage1_train/val"]


def test_split_limits_what_is_scored(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_cli(data, "--model", tiny_model, "--out", out, "--split", "val", "--split", "stardist_test")
    assert done.returncode == 0, done.stderr
    assert [found["name"] for found in read_report(out)["sets"]] == ["stage1_train/val", "stardist_test"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--split", "vall"], 2, "no set or split vall; expected one of stage1_test, stage1_train/train"),
        (["--truth", "nowhere.csv"], 2, "nowhere.csv: cannot be read"),
        (["--model", "nowhere.onnx"], 3, "nowhere.onnx: no such model file"),
    ],
)
def test_usage_and_model_errors(
    data: Path, tiny_model: Path, tmp_path: Path, arguments: list[str], code: int, complaint: str
) -> None:
    out = tmp_path / "out"
    model = [] if "--model" in arguments else ["--model", tiny_model]
    done = run_cli(data, "--out", out, *model, *arguments)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert complaint in done.stderr
    assert not out.exists()


def test_the_output_folder_is_new_or_empty(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    split_table = (data / "splits.csv").read_bytes()
    done = run_cli(data, "--model", tiny_model, "--out", data)
    assert done.returncode == 2
    assert done.stderr == f"error: {data}: not empty; choose a new folder for the results\n"
    assert (data / "splits.csv").read_bytes() == split_table

    config = EvaluationConfig(data, tmp_path / "out", tiny_model, None, ("val",))
    evaluate(config, ignore, ignore)
    before = (tmp_path / "out" / "evaluation.json").read_bytes()
    with pytest.raises(ResultsExistError, match="not empty"):
        evaluate(config, ignore, ignore)
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == before
    evaluate(EvaluationConfig(data, tmp_path / "again", tiny_model, None, ("val",)), ignore, ignore)
    assert (tmp_path / "again" / "evaluation.json").read_bytes() == before  # the figures are reproducible


def test_an_output_folder_that_cannot_be_made(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    done = run_cli(data, "--model", tiny_model, "--out", out, "--split", "val")
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {out}: cannot be written to: ")


def test_of_several_maps_the_foreground_is_scored_by_pixels(data: Path, tiled_model: Path, tmp_path: Path) -> None:
    report = evaluate(EvaluationConfig(data, tmp_path / "out", tiled_model, None, ("val",)), ignore, ignore)
    assert report.failures == ()
    (found,) = report.sets
    segmenter, samples = Segmenter(tiled_model), samples_of(data, "stage1_train")
    pixels = []
    for name in ("field_003", "field_004"):
        (maps,) = segmenter.predict([samples[name].read_image()])
        assert maps.shape[-1] == 3
        pixels.append(score_pixels(samples[name].read_labels() > 0, maps[..., 0], 0.5))
    assert found.scores is not None
    assert found.scores.dice == pytest.approx(np.mean([one.dice for one in pixels]))
    assert found.scores.loss == pytest.approx(np.mean([one.loss for one in pixels]))
    assert found.scores.dice > 0.6


def test_the_labels_that_are_scored_are_those_of_nuclei_infer(tmp_path: Path) -> None:
    """On an image of several blocks, full of touching nuclei, some of which cross the edges of windows."""
    field = fluorescence_field(2, height=320, width=300, n_nuclei=90)[0]
    image = np.tile(field, (4, 4))[:1100, :1150]
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    with zipfile.ZipFile(tmp_path / "stage1_test.zip", "w") as archive:
        archive.writestr("large/images/large.png", content.getvalue())
    (tmp_path / "large.png").write_bytes(content.getvalue())

    infer = Path(sysconfig.get_path("scripts")) / "nuclei-infer"
    subprocess.run([infer, tmp_path / "large.png", "--out", tmp_path / "inferred"], check=True, capture_output=True)
    expected = tifffile.imread(tmp_path / "inferred" / "labels" / "large.tif")
    assert expected.max() > 500

    config = EvaluationConfig(tmp_path / "stage1_test.zip", tmp_path / "evaluated", None, None, ())
    (found,) = evaluate(config, ignore, ignore).sets
    assert [one.n_predicted for one in found.images] == [expected.max()]
    masks = read_masks(tmp_path / "evaluated" / "submission_stage1_test.csv")["large"]
    np.testing.assert_array_equal(decode_labels("large", masks, *image.shape), expected)


def test_how_the_model_is_shown_the_images_is_scored_and_said(data: Path, tiled_model: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(data, tmp_path / "out", tiled_model, None, ("val",), tta=True, diameter_px=45.0)
    (found,) = evaluate(config, ignore, ignore).sets
    segmenter = Segmenter(tiled_model, tta=True, diameter_px=45)
    samples = samples_of(data, "stage1_train")
    counts = {name: segmenter.segment(samples[name].read_image()).count for name in ("field_003", "field_004")}
    assert {image.sample.image_id: image.n_predicted for image in found.images} == counts
    written = json.loads((tmp_path / "out/evaluation.json").read_text(encoding="utf-8"))
    assert (written["test_time_augmentation"], written["diameter_px"]) == (True, 45)
    assert all(score["metric"].endswith(" with --tta with --diameter 45") for score in written["card_evaluation"])


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_a_model_that_gives_nan_scores_nothing(
    tmp_path: Path, make_dsb_zip: Callable[..., Path], tiny_model: Path
) -> None:
    import onnx

    model = onnx.load(tiny_model)
    (steepness,) = (tensor for tensor in model.graph.initializer if tensor.name == "steepness")
    steepness.CopyFrom(onnx.numpy_helper.from_array(np.array(np.nan, np.float32), "steepness"))
    onnx.save(model, tmp_path / "nan.onnx")
    path = make_dsb_zip(tmp_path / "own.zip", [3])
    report = evaluate(EvaluationConfig(path, tmp_path / "out", tmp_path / "nan.onnx", None, ()), ignore, ignore)
    assert [failure.image_id for failure in report.failures] == ["field_003"]
    assert "NaN or infinite probabilities" in report.failures[0].reason


def test_no_training_framework_is_imported() -> None:
    code = (
        "import sys, nuclei_train.evaluation.evaluate\nprint([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_images_without_a_split_are_a_set_of_their_own(data: Path) -> None:
    table = data / "splits.csv"
    table.write_text(table.read_text().replace("field_005,test", "field_005,").replace("field_004", "other"))
    sets = find_sets(open_data(data), read_split_table(data), {}, ("stage1_train/unlisted", "val"))
    assert {found.name: [sample.image_id for sample in found.samples] for found in sets} == {
        "stage1_train/val": ["field_003"],
        "stage1_train/unlisted": ["field_004", "field_005"],
    }


def test_a_set_of_one_split_is_not_divided(tmp_path: Path, make_label_zip: Callable[..., Path]) -> None:
    make_label_zip(tmp_path / "stardist_test.zip", [20, 21, 22])
    (tmp_path / "splits.csv").write_text(
        "image_id,split,modality\nfield_020,stardist,fluorescence\nfield_021,stardist,fluorescence\n"
    )
    (found,) = find_sets(open_data(tmp_path), read_split_table(tmp_path), {}, ())
    assert found.name == "stardist_test"
    assert len(found.samples) == 3
    assert not found.may_be_fitted


@pytest.mark.parametrize(
    ("splits", "may_be_fitted"),
    [
        ({"field_020": "train"}, True),
        ({"field_020": "train", "field_021": "train", "field_022": "train"}, True),
        ({"a stranger": "train", "another": "val"}, True),
        ({"field_020": "test"}, False),
        ({"field_020": "train", "field_021": "val"}, False),  # each is a separate set, whose name says so
    ],
)
def test_where_training_images_may_be_among_them_is_known(
    tmp_path: Path, make_label_zip: Callable[..., Path], splits: dict[str, str], may_be_fitted: bool
) -> None:
    make_label_zip(tmp_path / "mine.zip", [20, 21, 22])
    rows = "".join(f"{name},{split},\n" for name, split in splits.items())
    (tmp_path / "splits.csv").write_text("image_id,split,modality\n" + rows)
    sets = find_sets(open_data(tmp_path), read_split_table(tmp_path), {}, ())
    assert {found.may_be_fitted for found in sets} == {may_be_fitted}


def test_what_kaggle_ignores_is_not_scored(tmp_path: Path, make_dsb_zip: Callable[..., Path]) -> None:
    path = make_dsb_zip(tmp_path / "stage2.zip", [3, 4, 5], with_masks=False)
    masks: dict[str, list[EncodedMask]] = {"field_003": [EncodedMask(2, "1 2")], "field_004": []}
    (found,) = find_sets(open_data(path), None, masks, ())
    assert [sample.image_id for sample in found.samples] == ["field_003", "field_005"]


def test_two_data_sets_of_one_name_are_refused(tmp_path: Path, make_dsb_zip: Callable[..., Path]) -> None:
    for name in ("one", "two"):
        make_dsb_zip(tmp_path / f"{name}.zip", [1], level="stage1_train/")
    with pytest.raises(DatasetError, match=r"2 data sets have the name stage1_train: .*one\.zip, .*two\.zip"):
        find_sets(open_data(tmp_path), None, {}, ())


def image_scores(n_true: int, n_predicted: int, hits: tuple[int, ...]) -> ImageScores:
    return ImageScores(Matching(n_true, n_predicted, hits), PixelScores(0.1, 0.9, 0.8, 0.7))


def test_summary_by_hand() -> None:
    crowded = image_scores(9, 9, (9,) * 10)
    sparse = image_scores(3, 5, (1,) * 5 + (0,) * 5)
    empty = image_scores(0, 1, (0,) * 10)
    scores = summarise([crowded, sparse, empty])
    assert (scores.n_images, scores.n_true, scores.n_predicted) == (3, 12, 15)
    assert scores.ap_50_pooled == pytest.approx(10 / 17)
    assert scores.ap_50_mean_over_images == pytest.approx((1 + 1 / 7 + 0) / 3)
    assert scores.mean_ap == pytest.approx((1 + 1 / 14 + 0) / 3)
    assert scores.f1_50_pooled == pytest.approx(20 / 27)
    assert scores.count_error == pytest.approx(1.0)  # off by 0, 2 and 1
    assert scores.count_bias == pytest.approx(1.0)
    assert scores.count_error_relative == pytest.approx((0 + 2 / 3) / 2)  # not defined without nuclei
    assert (scores.loss, scores.accuracy, scores.dice, scores.iou) == pytest.approx((0.1, 0.9, 0.8, 0.7))


def test_intervals_are_seeded_and_of_the_right_width() -> None:
    rng = np.random.default_rng(0)
    images = [image_scores(10, 10, (int(hits),) * 10) for hits in rng.integers(2, 10, 200)]
    scores = summarise(images)
    assert scores == summarise(images)
    assert scores.mean_ap_interval is not None
    low, high = scores.mean_ap_interval
    assert low < scores.mean_ap < high
    # The mean of 200 values is close to normal: the interval's half width is near 1.96 standard errors.
    error = np.std([image.mean_ap for image in images]) / np.sqrt(len(images))
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert scores.ap_50_pooled_interval is not None
    assert scores.ap_50_pooled_interval[0] < scores.ap_50_pooled < scores.ap_50_pooled_interval[1]
    assert summarise([image_scores(4, 4, (3,) * 10)] * 8).mean_ap_interval == pytest.approx((0.6, 0.6))
    assert summarise(images[:7]).mean_ap_interval is None


@pytest.mark.real_data
def test_sets_of_the_real_data(real_data: Path) -> None:
    table = read_split_table(real_data)
    assert table is not None
    sets = {found.name: found for found in find_sets(open_data(real_data), table, {}, ())}
    for split in ("train", "val", "test", "stardist"):
        expected = sum(name == split for name in table.split.values())
        assert len(sets[f"stage1_train/{split}"].samples) == expected > 0
    assert len(sets["stardist_test"].samples) == 50
    assert sets["stardist_test"].has_truth
    assert not sets["stage1_test"].has_truth
    assert len(sets) == 6
