"""Nothing leaves the machine: the commands work without a network, use none if there is one, and start no program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field

INFER = Path(sysconfig.get_path("scripts")) / "nuclei-infer"

SEGMENT = """
from nuclei_runtime.cli.infer import main as infer_main
infer_main()
"""

WATCHED = """
import atexit, sys
asked = []
def watch(event, arguments):
    networks = ("socket.", "ssl.", "urllib.", "http.", "ftplib.", "smtplib.", "telnetlib.")
    processes = ("subprocess.", "os.fork", "os.posix_spawn", "os.exec", "os.system", "os.startfile")
    if event.startswith((*networks, *processes)):
        asked.append(event)
sys.addaudithook(watch)
atexit.register(lambda: print("asked for:", sorted(set(asked))))
"""


def run(
    *command: str | Path, cwd: Path, home: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run without the variable that keeps ONNX Runtime silent, in a home of its own."""
    variables = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    homes = {key: str(home or cwd) for key in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LOCALAPPDATA")}
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**variables, **homes, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=check,
    )


def write_image(folder: Path) -> None:
    Image.fromarray(fluorescence_field(3, height=64, width=80, n_nuclei=4)[0]).save(folder / "image.png")


def test_the_installed_commands_work_without_a_network(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    alone = [unshare or "", "--map-root-user", "--net", "--"]
    if unshare is None or run(*alone, "true", cwd=tmp_path, check=False).returncode != 0:
        pytest.skip("NOT RUN: unshare cannot take the network away here")
    # Only the loopback device, which is down.
    devices = run(*alone, "cat", "/proc/net/dev", cwd=tmp_path).stdout.splitlines()[2:]
    assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    home = tmp_path / "home"
    home.mkdir()
    write_image(tmp_path)
    done = run(*alone, INFER, "image.png", "--out", "results", cwd=tmp_path, home=home)
    assert "1 of 1 image, " in done.stdout
    assert done.stderr == ""
    assert (tmp_path / "results" / "images.csv").is_file()


def test_no_socket_and_no_other_program_is_asked_for(tmp_path: Path) -> None:
    """Python reports each socket and each program to the audit hook, whichever package starts it."""
    write_image(tmp_path)
    code = WATCHED + SEGMENT
    done = run(sys.executable, "-c", code, "image.png", "--out", "results", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "asked for: []"
    probe = WATCHED + "import socket, subprocess; socket.socket().close(); subprocess.run([sys.executable, '-V'])"
    assert "asked for: ['socket.__new__', 'subprocess.Popen'" in run(sys.executable, "-c", probe, cwd=tmp_path).stdout


def test_onnx_runtime_sends_and_keeps_nothing(tmp_path: Path) -> None:
    """By default, builds from 1.29 on write an identifier and a queue of events into the home folder, and send them."""
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import os, numpy as np\n"
        "from nuclei_runtime import Segmenter\n"
        "assert 'ORT_DISABLE_TELEMETRY' not in os.environ\n"
        "print(Segmenter(threads=1).segment(np.zeros((64, 64), np.uint8)).count)\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path, home=home).stdout.split() == ["0", "1"]
    assert list(home.rglob("*")) == []
