"""docs/embedding.md: its code runs, its table lists the errors that people catch, and the names in it exist."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

import nuclei_runtime
from nuclei_runtime import Segmentation, Segmenter, errors
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.model_file import MAX_MODEL_BYTES

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "embedding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)\n```", PAGE, re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
LOOP, TABLE, TRUST, PROCESSES, CANCELLING, PLANE, REQUIREMENTS, SELF_TEST = PYTHON
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
CONFIG = {"model": BUNDLED_MODEL, "sha256": hashlib.sha256(BUNDLED_MODEL.read_bytes()).hexdigest(), "threads": 1}


class Camera(list[Any]):
    """An iterator over frames, one of which is bad."""

    shape, dtype = (96, 128), np.dtype(np.uint16)


def test_the_loop_continues_after_a_bad_frame(caplog: pytest.LogCaptureFixture) -> None:
    good = [fluorescence_field(seed, height=96, width=128)[0].astype(np.uint16) for seed in (1, 2)]
    shown: list[tuple[Any, ...]] = []
    camera = Camera([good[0], np.full((4, 4), np.nan), good[1]])
    exec(LOOP, {"config": CONFIG, "camera": camera, "show": lambda *what: shown.append(what)})
    assert [frame is image for (frame, *_), image in zip(shown, good, strict=True)] == [True, True]
    for frame, labels, count in shown:
        assert labels.shape == frame.shape
        assert labels.max() == count > 0
    assert [record.name for record in caplog.records] == ["microscope"]
    assert caplog.messages[0].startswith("frame skipped: 16 of 16 values are NaN")


def test_the_loop_has_twenty_lines() -> None:
    assert len([line for line in LOOP.splitlines() if line]) <= 20


def test_the_loop_refuses_another_model() -> None:
    with pytest.raises(errors.ModelDigestError):
        exec(LOOP, {"config": {**CONFIG, "sha256": "0" * 64}, "camera": Camera(), "show": None})


def test_the_table_and_the_outlines_are_used_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = fluorescence_field(1, height=128, width=128)[0]
    np.save("frame.npy", frame)
    exec(TABLE, {})
    areas = np.bincount(Segmenter().segment(frame).labels.ravel())[1:]
    printed = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert printed == (np.flatnonzero(areas > 200) + 1).tolist() != []


@pytest.mark.parametrize(
    ("exposure", "warning"),
    [(0, "blank: nothing in the image stands out from its noise"), (4, "take the frame again")],
)
def test_a_frame_that_cannot_be_trusted_is_neither_counted_in_silence_nor_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, exposure: int, warning: str
) -> None:
    monkeypatch.chdir(tmp_path)
    field, _ = fluorescence_field(1, height=192, width=192)
    np.save("frame.npy", np.clip(exposure * field.astype(int), 0, 255).astype(np.uint8))
    exec(TRUST, {})
    assert caplog.messages[0].startswith(warning)


def test_processes_count_what_this_one_counts(tmp_path: Path) -> None:
    program = (
        "import json\n"
        "from nuclei_runtime.checks.synthetic import fluorescence_field\n"
        "if __name__ == '__main__':\n"
        "    frames = [fluorescence_field(seed, height=96, width=96)[0] for seed in range(3)]\n"
        "    print(json.dumps(count_all(frames)))\n"
    )
    (tmp_path / "program.py").write_text(f"{PROCESSES}\n{program}", encoding="utf-8")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    frames = [fluorescence_field(seed, height=96, width=96)[0] for seed in range(3)]
    assert json.loads(done.stdout) == [Segmenter().segment(frame).count for frame in frames]


def test_a_call_with_a_timeout_gives_a_result_or_ends() -> None:
    names: dict[str, Any] = {}
    exec(CANCELLING, names)
    frame = fluorescence_field(1, height=96, width=96)[0]
    segmenter = Segmenter()
    assert asyncio.run(names["segment"](segmenter, frame, 600)).count == segmenter.segment(frame).count

    class Endless:
        cancelled = False

        def segment(self, _frame: object, cancel: Event) -> None:
            assert cancel.wait(60), "nobody cancelled"
            self.cancelled = True

    endless = Endless()
    with pytest.raises(TimeoutError):
        asyncio.run(names["segment"](endless, frame, 0.1))
    assert endless.cancelled


def test_the_blocks_of_a_plane_give_the_labels_of_the_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = fluorescence_field(1, height=128, width=128)[0]
    np.save("frame.npy", frame)
    names: dict[str, Any] = {}
    exec(PLANE, names)
    np.testing.assert_array_equal(names["labels"], Segmenter().segment(frame).labels)
    assert names["labels"].max() > 5


def test_the_self_test_runs() -> None:
    exec(SELF_TEST, {"config": CONFIG})


def test_the_list_of_wheels_is_one_that_pip_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two empty wheels are installed from the list into a folder, and a changed one is refused."""
    monkeypatch.chdir(tmp_path)
    Path("wheelhouse").mkdir()
    for name in ("first_part", "second"):
        write_wheel(Path("wheelhouse"), name)
    exec(REQUIREMENTS, {})
    lines = Path("requirements.txt").read_text().splitlines()
    assert [re.sub("[0-9a-f]{64}", "...", line) for line in lines] == [
        "first_part==1.0 --hash=sha256:...",
        "second==1.0 --hash=sha256:...",
    ]
    (line,) = [line for line in COMMANDS if line.startswith("pip install")]
    command = [sys.executable, "-m", *line.split(), "--no-deps", "--quiet", "--disable-pip-version-check", "--target"]
    subprocess.run([*command, "installed"], check=True)
    assert (tmp_path / "installed" / "second.py").is_file()
    write_wheel(Path("wheelhouse"), "second", "changed = True")
    done = subprocess.run([*command, "again"], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def write_wheel(folder: Path, name: str, code: str = "") -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        info = f"{name}-1.0.dist-info"
        wheel.writestr(f"{name}.py", code)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_the_commands_in_python_run(tmp_path: Path) -> None:
    (tmp_path / "nuclei.onnx").write_bytes(BUNDLED_MODEL.read_bytes())
    np.save(tmp_path / "frame.npy", fluorescence_field(1, height=64, width=64)[0])
    lines = [line for line in COMMANDS if line.startswith(("python -m timeit", "python -c"))]
    assert len(lines) == 2
    for line in lines:
        words = re.findall(r'"([^"]*)"|(\S+)', line.replace("-n 20", "-n 1 -r 1"))
        command = [sys.executable, *(quoted or plain for quoted, plain in words[1:])]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert "best of 1" in done.stdout or done.stdout.strip() == CONFIG["sha256"]


def test_what_is_named_exists() -> None:
    for script, options in {*re.findall(r"`(nuclei-[a-z]+)((?: --?\w[\w-]*)*)", PAGE)}:
        path = Path(sysconfig.get_path("scripts")) / script
        assert path.exists() or path.with_suffix(".exe").exists()
        if not options:
            continue
        shown = subprocess.run([path, "--help"], capture_output=True, text=True, check=True, encoding="utf-8").stdout
        assert all(option in shown for option in options.split())
    for target in re.findall(r"\]\(([^)#\s]+)", PAGE) + re.findall(
        r"\]\(([^)#\s]+)", (DOCS / "card.md").read_text("utf-8")
    ):
        assert (DOCS / target).exists(), target
    assert f"{MAX_MODEL_BYTES >> 20} MiB" in PAGE
    for name in ("package.json", "package-lock.json", ".npmrc", "run.mjs"):
        assert (DOCS / "node" / name).is_file()


def test_the_table_names_every_public_error_with_the_builtin_that_it_is() -> None:
    public = {name: getattr(nuclei_runtime, name) for name in nuclei_runtime.__all__ if name.endswith("Error")}
    lines = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| ([^|]*) \| ([^|]*)\|$", PAGE, re.MULTILINE)
    assert {name for name, *_ in lines} == set(public)
    for name, builtin, meaning, _ in lines:
        own = {base.__name__ for base in public[name].__bases__ if base.__module__ == "builtins"} - {"Exception"}
        assert own == ({builtin} if builtin else set()), name
        assert meaning


def test_the_page_uses_public_names_only() -> None:
    imports = [node for code in PYTHON for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("nuclei")]
    assert {node.module for node in ours} == {"nuclei_runtime"}
    assert {alias.name for node in ours for alias in node.names} <= set(nuclei_runtime.__all__)
    for home, name in re.findall(r"\b(nuclei_(?:runtime|train|export)[\w.]*)\.(\w+)", PAGE):
        assert home == "nuclei_runtime"
        assert name in nuclei_runtime.__all__
    for name in re.findall(r"`(?:with )?(Seg\w+|read_\w+|open_\w+|[A-Z_]*MODELS)\b", PAGE):
        assert name in nuclei_runtime.__all__, name
    for name in re.findall(r"\bsegmenter\.(\w+)", PAGE):
        assert hasattr(Segmenter, name), name
    for name in re.findall(r"\bresult\.(\w+)", PAGE):
        assert name == "labels" or hasattr(Segmentation, name), name


def test_the_library_says_nothing_on_its_own(tmp_path: Path) -> None:
    """In a separate process, on the file descriptors that C++ libraries also write to."""
    code = (
        "import numpy as np; from nuclei_runtime import Segmenter\n"
        "Segmenter().segment(np.eye(50))\n"
        "try: Segmenter('absent.onnx')\n"
        "except FileNotFoundError: pass"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
