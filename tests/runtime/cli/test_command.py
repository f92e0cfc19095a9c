"""What all commands share, as seen from outside: messages, exit codes, and no other output."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from nuclei_runtime.cli.command import StopSignals

COMMAND = """
import sys
from nuclei_runtime.cli.command import run_command
import nuclei_runtime.errors as errors

def command(word: str) -> None:
    '''Do something.'''
    {body}

run_command(command, {{'colour_science': 'colour'}})
"""


def run(body: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = COMMAND.format(body=body)
    return subprocess.run(
        [sys.executable, "-c", code, *(arguments or ("x",))], capture_output=True, text=True, check=False, cwd=cwd
    )


def test_a_command_that_ends_exits_with_0() -> None:
    done = run("print(word)", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_command_can_exit_with_a_code_of_its_own(code: int) -> None:
    assert run(f"import typer; raise typer.Exit({code})").returncode == code


@pytest.mark.parametrize("arguments", [("a", "b"), ("--colour", "a")])
def test_wrong_usage_exits_with_2_and_shows_the_usage(arguments: tuple[str, ...]) -> None:
    done = run("print(word)", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr


def test_help_is_the_docstring() -> None:
    done = run("print(word)", "--help")
    assert done.returncode == 0
    assert "Do something." in done.stdout
    assert "--install-completion" not in done.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("ModelNotFoundError('m')", 3),
        ("ModelFormatError('m')", 3),
        ("CardError('m', ('a', 'b'))", 3),
        ("ProviderError('m')", 3),
        ("RuntimeEnvironmentError('m')", 3),
        ("MissingExtraError('p', 'cpu')", 3),
        ("InputsError('m')", 2),
        ("ResultsExistError('m')", 2),
        ("ResultsInUseError('m')", 2),
    ],
)
def test_an_error_is_a_sentence_and_a_code(error: str, code: int) -> None:
    done = run(f"raise errors.{error}")
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "extra"),
    [("onnxruntime", "cpu"), ("watchfiles", "watch"), ("colour_science.io", "colour")],
)
def test_a_package_of_an_extra_that_is_missing_is_one_sentence(package: str, extra: str) -> None:
    """Python itself raises the error: the import is blocked as if the package were not installed."""
    top = package.partition(".")[0]
    block = (
        "import importlib.abc\n    class Block(importlib.abc.MetaPathFinder):\n"
        f"        def find_spec(self, name, *_):\n            if name.partition('.')[0] == {top!r}:\n"
        "                raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        f"    sys.meta_path.insert(0, Block())\n    import {package}"
    )
    done = run(block)
    assert done.returncode == 3
    assert done.stderr == f'error: {top} is not installed; install it with: pip install "nuclei-edge[{extra}]"\n'


def test_a_missing_module_that_is_not_an_extra_is_a_bug_and_shows_where() -> None:
    done = run("import no_such_module_anywhere")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "no_such_module_anywhere" in done.stderr


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("open('file/below', 'w')", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert "file/below" in done.stderr.replace("\\\\", "/")
    assert len(done.stderr.splitlines()) == 1


def test_a_class_of_error_brings_its_own_exit_code() -> None:
    body = "class OtherError(errors.NucleiError):\n        exit_code = 7\n    raise OtherError('found nothing')"
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "error: found nothing\n")


def test_what_native_code_prints_on_stderr_can_be_silenced() -> None:
    body = (
        "import os\n    from nuclei_runtime.cli.command import silence_stderr\n"
        "    with silence_stderr():\n        os.write(2, b'noise')\n    os.write(2, b'heard')"
    )
    assert run(body).stderr == "heard"


def test_damaged_files_are_reported_once(tmp_path: Path) -> None:
    """Neither tifffile's log nor Pillow's warnings reach the terminal in addition to the reader's own message."""
    import numpy as np
    import tifffile
    from PIL import Image

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40), np.uint16), compression="zlib")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "b.tif", compression="tiff_lzw")
    body = (
        "from nuclei_runtime.readers.opening import read_image\n    from pathlib import Path\n"
        "    data = Path(word).read_bytes()\n    n_failed = 0\n"
        "    for n in range(1, len(data)):\n        try: read_image(data[:n])\n"
        "        except errors.ImageError: n_failed += 1\n    print(n_failed > 50)"
    )
    for name in ("a.tif", "b.tif"):
        done = run(body, str(tmp_path / name))
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="NOT RUN: Windows has the signal that is faked here")
def test_windows_s_break_stops_as_sigterm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    event = Event()
    with StopSignals(event) as signals:
        signal.raise_signal(signal.SIGUSR1)
        assert event.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)
    assert signals.exit_code == 128 + signal.SIGUSR1
