"""Reading damaged files in a process of their own, which a native library may crash or block."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SECONDS_PER_FILE = 60
"""Generous, because the machine may be busy: an endless loop takes longer."""
MOST_MEMORY_MB = 400

DAMAGE = """
import faulthandler, json, logging, random, sys, warnings
from pathlib import Path
from nuclei_runtime.errors import ImageError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection

logging.disable()
warnings.simplefilter("ignore")
source, n, most_seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
whole = source.read_bytes()
target = source.with_name("damaged" + source.suffix)


def damaged(rng):
    data = bytearray(whole)
    near = min(len(data), rng.choice((100, 1000, len(data))))
    at = rng.randrange(near) if rng.random() < 0.5 else len(data) - 1 - rng.randrange(near)
    kind = rng.randrange(4)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        for _ in range(rng.choice((1, 10))):
            data[rng.randrange(near)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        data[at : at + 4] = rng.choice((b"\\xff\\xff\\xff\\xff", b"\\xff\\xff\\xff\\x7f", b"\\0\\0\\0\\0"))
    else:
        length = rng.randrange(1, 500)
        data[at : at + length] = bytes(min(length, len(data) - at))
    return bytes(data)


def peak():
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def read(path):
    with open_planes(path, Selection(channel=0, z="max", scene="each")) as planes:
        for plane in planes[:4]:
            plane.read(slice(0, plane.shape[0]), slice(0, plane.shape[1]))


read(source)  # loads the libraries
before, found = peak(), []
for seed in range(n):
    target.write_bytes(damaged(random.Random(seed)))
    faulthandler.dump_traceback_later(most_seconds, exit=True)
    print(f"file {seed} of {source.name}", file=sys.stderr, flush=True)
    try:
        read(target)
        found.append(["read", ""])
    except ImageError as error:
        found.append([type(error).__name__, str(error)])
faulthandler.cancel_dump_traceback_later()
print(json.dumps([found, peak() - before]))
"""

ReadDamaged = Callable[[Path, int], list[tuple[str, str]]]


@pytest.fixture
def read_damaged() -> ReadDamaged:
    """``read_damaged(path, n)``: damages a file in `n` ways and reads each; kinds and messages of the outcomes."""

    def read(path: Path, n: int) -> list[tuple[str, str]]:
        done = subprocess.run(
            [sys.executable, "-c", DAMAGE, str(path), str(n), str(SECONDS_PER_FILE)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_PER_FILE * 10,
        )
        assert done.returncode == 0, f"crashed, blocked or raised something else: {done.stderr[-3000:]}"
        found, megabytes = json.loads(done.stdout.splitlines()[-1])
        assert megabytes < MOST_MEMORY_MB
        assert all(len(message) < 600 for _, message in found)
        return [(kind, message) for kind, message in found]

    return read
