"""nuclei-infer as its users run it: the installed command, real files, exit codes and messages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer_main
from nuclei_runtime.model.bundled import BUNDLED_MODEL, BUNDLED_MODELS
from nuclei_runtime.steps.flags import Flag
from tests.contents import png_bytes, read_table

INFER = shutil.which("nuclei-infer", path=str(Path(sys.executable).parent)) or "nuclei-infer"


Infer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def infer(run_here: Infer) -> Infer:
    """Runs the command within this process."""
    return partial(run_here, "nuclei-infer")


@pytest.fixture
def installed_infer(run_script: Infer) -> Infer:
    """Runs the command as a process, with pipes and signals of its own."""
    return partial(run_script, "nuclei-infer")


def field(seed: int = 0, height: int = 96, width: int = 120) -> np.ndarray:
    return fluorescence_field(seed, height=height, width=width, n_nuclei=8)[0]


def test_depth_and_colour_of_the_file_do_not_change_the_nuclei(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    grey = field()
    alpha = np.full_like(grey, 255)
    pictures = {
        "grey8/a.png": grey,
        "rgb8/a.png": np.dstack([grey] * 3),
        "rgba8/a.png": np.dstack([grey, grey, grey, alpha]),
        "grey8tif/a.tif": grey,
        "grey16/a.png": grey.astype(np.uint16) * 257,
        "grey12in16/a.tif": grey.astype(np.uint16) * 16,
        "rgb16/a.tif": np.dstack([grey.astype(np.uint16) * 257] * 3),
        "float/a.tif": grey.astype(np.float32) / np.float32(255),
        "float64/a.tif": grey.astype(np.float64),
        "int32/a.tif": grey.astype(np.int32) * 100_000,
    }
    for name, image in pictures.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True)
        if path.suffix == ".png":
            path.write_bytes(png_bytes(image))
        else:
            tifffile.imwrite(path, image, photometric="rgb" if image.ndim == 3 else "minisblack")
    done = infer(tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model)
    assert done.returncode == 0, done.stderr
    expected = tifffile.imread(tmp_path / "out/labels/grey8/a.tif")
    assert expected.shape == grey.shape
    assert expected.max() >= 3
    for name in pictures:
        labels = tifffile.imread((tmp_path / "out/labels" / name).with_suffix(".tif"))
        np.testing.assert_array_equal(labels, expected, err_msg=name)


def test_a_mixed_folder_is_finished(tmp_path: Path, tiny_model: Path, installed_infer: Infer) -> None:
    folder = tmp_path / "mixed folder ü"
    (folder / "sub dir").mkdir(parents=True)
    good = png_bytes(field())
    (folder / "good.png").write_bytes(good)
    Image.fromarray(field(1)).save(folder / "sub dir" / "größe 1.JPG", quality=95)
    tifffile.imwrite(folder / "sub dir" / "zwei.tiff", field(2, 50, 200).astype(np.uint16) * 257)
    (folder / "notes.txt").write_text("not an image")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes(good[: len(good) // 2])
    tifffile.imwrite(folder / "whole.tif", field())
    (folder / "cut.tif").write_bytes((folder / "whole.tif").read_bytes()[:2000])
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        image = field().astype(np.float32)
        image[3, 4] = value
        tifffile.imwrite(folder / f"{name}.tif", image)
    (folder / "text.png").write_text("no picture")
    tifffile.imwrite(folder / "stack.tif", np.zeros((5, 30, 30), np.uint8), photometric="minisblack")

    done = installed_infer(folder, "--out", tmp_path / "out put", "--model", tiny_model)
    assert done.returncode == 1
    rows = {row["image"]: row for row in read_table(tmp_path / "out put/images.csv")}
    failed = {"empty.png", "cut.png", "cut.tif", "nan.tif", "inf.tif", "text.png", "stack.tif"}
    assert {name for name, row in rows.items() if row["status"] == "failed"} == failed
    assert set(rows) - failed == {"good.png", "whole.tif", "sub dir/größe 1.JPG", "sub dir/zwei.tiff"}
    assert "empty" in rows["empty.png"]["reason"]
    assert "NaN" in rows["nan.tif"]["reason"]
    lines = done.stderr.splitlines()
    assert len(lines) == len(failed)
    for name in failed:
        assert f"failed: {name}: {rows[name]['reason']}" in lines
    assert tifffile.imread(tmp_path / "out put/labels/sub dir/zwei.tif").shape == (50, 200)
    assert Image.open(tmp_path / "out put/overlays/sub dir/größe 1.png").size == (120, 96)
    counted = [row["image"] for row in read_table(tmp_path / "out put/nuclei.csv")]
    assert {name: str(counted.count(name)) for name in rows} == {
        name: row["n_nuclei"] or "0" for name, row in rows.items()
    }
    assert "4 of 11 images" in done.stdout
    assert "7 failed" in done.stdout
    assert "other files skipped: 1" in done.stdout
    touching = [int(row["n_touching_border"] or 0) for row in rows.values()]
    assert f"nuclei that touch the edge of their image and may be cut: {sum(touching)} of " in done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_an_image_of_which_one_frame_failed_counts_as_segmented_in_part(
    tmp_path: Path, tiny_model: Path, infer: Infer
) -> None:
    frames = np.stack([field()] * 2).astype(np.float32)
    frames[1, 3, 4] = np.nan
    tifffile.imwrite(tmp_path / "frames.tif", frames, imagej=True, metadata={"axes": "TYX"})
    done = infer(tmp_path / "frames.tif", "--out", tmp_path / "out", "--model", tiny_model)
    assert done.returncode == 1
    assert done.stdout.startswith("0 of 1 image complete, 1 segmented in part, ")
    assert " in 1 frame of time series, 0 failed; other files skipped: 0\n" in done.stdout


def test_an_image_without_nuclei_is_not_a_failure_and_a_pipe_stays_quiet(
    tmp_path: Path, tiny_model: Path, installed_infer: Infer
) -> None:
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "black.png")
    done = installed_infer(tmp_path / "black.png", "--out", tmp_path / "out", "--model", tiny_model)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "0 nuclei" in done.stdout
    labels = tifffile.imread(tmp_path / "out/labels/black.tif")
    assert labels.shape == (40, 60)
    assert not labels.any()


@pytest.mark.parametrize(("images", "out"), [(".", "out"), (".", ".")])
def test_results_inside_the_images_are_not_read_back(
    tmp_path: Path, tiny_model: Path, images: str, out: str, infer: Infer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate/a.png").write_bytes(png_bytes(field()))
    arguments = (images, "--out", out, "--model", tiny_model)
    first = infer(*arguments)
    assert first.returncode == 0, first.stderr
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = infer(*arguments, "--overwrite")
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_results_are_replaced_only_on_request(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    write_here = (tmp_path, "--out", tmp_path / "out", "--model", tiny_model)
    assert infer(*write_here).returncode == 0
    (tmp_path / "out/labels/a.tif").write_bytes(b"corrected by hand")
    refused = infer(*write_here)
    assert refused.returncode == 2
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "out/labels/a.tif").read_bytes() == b"corrected by hand"


def test_json_is_one_object_a_line_and_image(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "ä.png").write_bytes(png_bytes(field()))
    (tmp_path / "broken.png").write_bytes(b"")
    done = infer(tmp_path, "--out", tmp_path / "out", "--model", tiny_model, "--json")
    assert done.returncode == 1
    broken, good = (json.loads(line) for line in done.stdout.splitlines())
    assert (broken["image"], broken["status"], broken["n_nuclei"]) == ("broken.png", "failed", None)
    assert "empty" in broken["reason"]
    assert (good["image"], good["status"], good["reason"]) == ("ä.png", "ok", None)
    assert (good["height"], good["width"]) == (96, 120)
    assert good["n_nuclei"] == tifffile.imread(tmp_path / "out" / good["labels"]).max() > 0
    assert good["nuclei_per_megapixel"] == pytest.approx(good["n_nuclei"] / 0.01152, abs=1e-3)


def test_what_the_machine_or_the_model_lacks_is_exit_3(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    arguments = (tmp_path / "a.png", "--out", tmp_path / "out", "--model")
    absent = infer(*arguments, tmp_path / "absent.onnx")
    assert absent.returncode == 3
    assert "absent.onnx" in absent.stderr
    unknown = infer(*arguments, tiny_model, "--provider", "NoSuchProvider")
    assert unknown.returncode == 3
    assert "CPUExecutionProvider" in unknown.stderr
    for done in (absent, unknown):
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    unwritable = infer(tmp_path / "a.png", "--out", tmp_path / "file" / "out", "--model", tiny_model)
    assert unwritable.returncode == 3
    assert "cannot be written" in unwritable.stderr


def test_what_the_user_got_wrong_is_exit_2(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "a.txt").touch()
    rest = ("--out", tmp_path / "out", "--model", tiny_model)
    nothing = infer(tmp_path, *rest)
    assert nothing.returncode == 2
    assert "no image found" in nothing.stderr
    assert "skipped 1 other file (.txt); save images in other formats as OME-TIFF" in nothing.stderr
    assert infer(tmp_path / "absent", *rest).returncode == 2
    assert infer(*rest).returncode == 2
    assert not (tmp_path / "out").exists()


def test_only_the_shard_that_joins_the_tables_names_them(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    for name in ("a.png", "d.png"):  # in shards 2 and 1 of two
        (tmp_path / name).write_bytes(png_bytes(field()))
    out = tmp_path / "out"
    arguments = (tmp_path, "--out", out, "--model", tiny_model, "--shard")
    first, last = infer(*arguments, "1/2"), infer(*arguments, "2/2")
    assert f"results in {out}: labels, overlays\nthe last shard writes" in first.stdout
    assert last.stdout.endswith(f"results in {out}: labels, overlays, nuclei.csv, images.csv, summary.csv\n")
    assert (out / "nuclei.csv").exists()
    idle = infer(tmp_path / "a.png", "--out", tmp_path / "idle", "--model", tiny_model, "--shard", "1/2")
    assert f"results in {tmp_path / 'idle'}: none of this shard\nthe last shard writes" in idle.stdout


def test_the_last_line_names_only_what_is_there(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png_bytes(field())[:300])
    out = tmp_path / "out"
    arguments = (tmp_path, "--out", out, "--model", tiny_model)
    nothing = infer(*arguments)
    assert nothing.returncode == 1
    assert nothing.stdout.splitlines()[-1] == f"results in {out}: nuclei.csv, images.csv, summary.csv"
    (tmp_path / "b.png").write_bytes(png_bytes(field()))
    some = infer(*arguments, "--resume", "--save", "overlays")
    assert some.stdout.splitlines()[-1] == f"results in {out}: overlays, images.csv, summary.csv"
    assert not (out / "labels").exists()


@pytest.mark.skipif(os.name == "nt", reason="NOT RUN: Windows sends Ctrl-C to a whole console, this test's too")
def test_ctrl_c_leaves_what_was_done(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "in").mkdir()
    for number in range(200):
        (tmp_path / "in" / f"{number:03d}.png").write_bytes(png_bytes(field()))
    command = [INFER, str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", str(tiny_model), "--json"]
    # A test run that was started in the background ignores the signal, and so would its child.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, complaint = process.communicate()
    assert process.returncode == 130
    assert complaint.startswith("stopped: ")
    assert "Traceback" not in complaint
    printed = [json.loads(line)["image"] for line in (first + rest).splitlines()]
    rows = read_table(tmp_path / "out/images.csv")
    assert 1 <= len(printed) < 200
    assert [row["image"] for row in rows][: len(printed)] == printed
    # Several workers may have done more than was reported. With one, the signal may come just before a file is counted.
    assert int(complaint.split()[1]) in (len(rows) - 1, len(rows))
    for row in rows:
        assert (tmp_path / "out" / row["labels"]).is_file()
    again = infer(tmp_path / "in/000.png", "--out", tmp_path / "out", "--model", tiny_model, "--overwrite")
    assert again.returncode == 0, again.stderr
    assert [path.name for path in (tmp_path / "out/labels").iterdir()] == ["000.tif"]


def test_a_signal_while_images_are_listed_is_not_a_crash(
    tmp_path: Path, run_main: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    monkeypatch.setattr("nuclei_runtime.runs.config.find_images", interrupted)
    code, _, complaint = run_main(infer_main, tmp_path, "--out", tmp_path / "out")
    assert code == 143
    assert complaint == "stopped before the first image\n"


@pytest.mark.skipif(os.name == "nt", reason="NOT RUN: Windows ends a process without asking it")
def test_sigterm_leaves_what_was_done_and_resume_goes_on(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "in").mkdir()
    for number in range(60):
        (tmp_path / "in" / f"{number:03d}.png").write_bytes(png_bytes(field()))
    arguments = (str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--model", str(tiny_model), "--json")
    with subprocess.Popen([INFER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate()
    assert process.returncode == 143
    assert complaint.startswith("stopped: ")
    assert "--resume" in complaint
    n_done = len(read_table(tmp_path / "out/images.csv"))
    assert 1 <= n_done < 60
    assert int(complaint.split()[1]) in (n_done - 1, n_done)
    again = infer(*arguments[:-1], "--resume")
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""  # nothing was segmented again
    assert f"60 of 60 images ({n_done} done before)" in again.stdout
    assert len(read_table(tmp_path / "out/images.csv")) == 60


@pytest.mark.parametrize(
    "options",
    [
        ("--resume", "--overwrite"),
        ("--verify", "--resume"),
        ("--watch", "--verify"),
        ("--watch", "--shard", "1/2"),
        ("--watch", "--dask", "local:2"),
        ("--dask", "local:0"),
        ("--settle", "1"),
        ("--shard", "0/2"),
        ("--shard", "3/2"),
        ("--shard", "1"),
    ],
)
def test_options_that_exclude_each_other_or_make_no_sense_are_exit_2(
    tmp_path: Path,
    tiny_model: Path,
    run_main: Callable[..., tuple[int, str, str]],
    options: tuple[str, ...],
) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    code, _, complaint = run_main(infer_main, tmp_path, "--out", tmp_path / "out", "--model", tiny_model, *options)
    assert code == 2
    assert any(option in complaint for option in options)
    assert not (tmp_path / "out").exists()


def test_a_name_cannot_write_a_line_of_its_own_on_the_terminal(
    tmp_path: Path, tiny_model: Path, run_main: Callable[..., tuple[int, str, str]]
) -> None:
    try:
        (tmp_path / "a\nfailed: b\x1b[2J.png").write_bytes(b"")
    except OSError as error:
        pytest.skip(f"NOT RUN: this file system does not take such names: {error}")
    code, _, complaint = run_main(infer_main, tmp_path, "--out", tmp_path / "out", "--model", tiny_model)
    assert code == 1
    (line,) = complaint.splitlines()
    assert line.startswith("failed: a\\nfailed: b\\x1b[2J.png: ")


def test_verify_finds_all_as_it_was_or_says_what_differs(
    tmp_path: Path, tiny_model: Path, run_main: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(png_bytes(field()))
    arguments = (tmp_path / "in", "--out", tmp_path / "out", "--model", tiny_model)
    assert run_main(infer_main, *arguments, "--verify")[0] == 2  # nothing there to verify
    assert run_main(infer_main, *arguments)[0] == 0
    code, out, _ = run_main(infer_main, *arguments, "--verify")
    assert (code, out) == (0, "6 of 6 are unchanged (provenance, images and tables)\n")
    (tmp_path / "in/b.png").write_bytes(png_bytes(field(1)))
    code, out, _ = run_main(infer_main, *arguments, "--verify")
    assert code == 1
    assert "differs: b.png: the image is not the one that was segmented" in out
    assert "differs: a.png" not in out


def test_a_run_that_continues_with_other_options_says_which(
    tmp_path: Path, tiny_model: Path, run_main: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    arguments = (tmp_path, "--out", tmp_path / "out", "--model", tiny_model)
    assert "differs from the earlier one" not in run_main(infer_main, *arguments)[2]
    assert "differs from the earlier one" not in run_main(infer_main, *arguments, "--resume")[2]
    other = ("--save", "labels,overlays,geojson", "--z", "max", "--exclude-border")
    _, out, _ = run_main(infer_main, *arguments, *other, "--verify")
    assert "differs: provenance.json: selection.z was none and is max" in out
    _, _, complaint = run_main(infer_main, *arguments, *other, "--resume")
    assert complaint.splitlines()[0] == (
        "note: this run differs from the earlier one in the results folder: selection.z was none and is max; "
        "left_out.exclude_border was false and is true; outputs.folders was labels, original_labels, overlays, tables "
        "and is labels, original_labels, overlays, tables, geojson"
    )
    assert "differs from the earlier one" not in run_main(infer_main, *arguments, "--overwrite")[2]


def test_a_terminal_gets_a_bar_and_the_pipe_only_json(tmp_path: Path, tiny_model: Path) -> None:
    pty = pytest.importorskip("pty", reason="NOT RUN: this system has no pseudo-terminals")
    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    (tmp_path / "b.png").write_bytes(b"")
    ours, theirs = pty.openpty()
    command = [INFER, str(tmp_path), "--out", str(tmp_path / "out"), "--model", str(tiny_model), "--json"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == ["a.png", "b.png"]
    assert "100%" in shown
    assert "failed: b.png: the file is empty" in shown


def test_the_bundled_model_is_the_default(tmp_path: Path, infer: Infer) -> None:
    assert BUNDLED_MODEL.is_file()
    (tmp_path / "a.png").write_bytes(png_bytes(field(3, 128, 128)))
    done = infer(tmp_path / "a.png", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert tifffile.imread(tmp_path / "out/labels/a.tif").shape == (128, 128)


def test_the_bundled_model_comes_in_int8_too(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(field(3, 128, 128)))
    for precision in BUNDLED_MODELS:
        out = tmp_path / precision
        done = infer(tmp_path / "a.png", "--out", out, "--precision", precision)
        assert done.returncode == 0, done.stderr
        model = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["method"]["model"]
        assert model["precision"] == precision
        assert model["sha256"] == hashlib.sha256(BUNDLED_MODELS[precision].read_bytes()).hexdigest()
    both = infer(tmp_path / "a.png", "--out", tmp_path / "out", "--precision", "int8", "--model", tiny_model)
    assert both.returncode == 2
    assert "has its own" in both.stderr


def test_only_the_model_that_was_pinned_runs(tmp_path: Path, tiny_model: Path, infer: Infer) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    digest = hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    arguments = (tmp_path / "a.png", "--out", tmp_path / "out", "--model", tiny_model, "--sha256")
    other = infer(*arguments, "0" * 64)
    assert other.returncode == 3
    assert digest in other.stderr
    assert not (tmp_path / "out").exists()
    malformed = infer(*arguments, digest[:-1])
    assert malformed.returncode == 2
    assert "hexadecimal digits" in malformed.stderr
    done = infer(*arguments, digest)
    assert done.returncode == 0, done.stderr
    provenance = json.loads((tmp_path / "out/provenance.json").read_text(encoding="utf-8"))
    assert provenance["method"]["model"]["sha256"] == digest


def test_the_summary_says_which_images_are_flagged_and_why(tmp_path: Path, tiled_model: Path, infer: Infer) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(field()))
    (tmp_path / "nothing.png").write_bytes(png_bytes(field() * 0))
    (tmp_path / "empty.png").touch()
    done = infer(tmp_path / "*.png", "--out", tmp_path / "out", "--model", tiled_model)
    assert done.returncode == 1, done.stderr
    assert (
        "1 of 2 segmented images is flagged; the column flags of images.csv says which:\n"
        f"  blank (1 image): {Flag.BLANK.reason}; {Flag.BLANK.advice}\n" in done.stdout
    )
