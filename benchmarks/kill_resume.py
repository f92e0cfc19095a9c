"""Kill nuclei-infer repeatedly without warning, resume it, and compare the results with an undisturbed run's.

    python benchmarks/kill_resume.py [MODEL.onnx] [--images 200] [--kills 50]

After each kill, every file under a final name must be byte for byte what the undisturbed run wrote; at the end, so must
the whole folder. Half of the kills wait until a file is being written. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.results.layout import PARTIAL_FOLDER, RECORDS_FOLDER, RESULT_FOLDERS

INFER = str(Path(sysconfig.get_path("scripts")) / "nuclei-infer")


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files in a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def is_writing(out: Path) -> bool:
    """Return whether the folder holds a file under a temporary name."""
    try:
        with os.scandir(out / PARTIAL_FOLDER) as works:
            return any(next(os.scandir(work), None) is not None for work in works)
    except OSError:  # not there, or removed in the meantime
        return False


def n_records(out: Path) -> int:
    """Count the finished images."""
    try:
        return len(os.listdir(out / RECORDS_FOLDER))  # noqa: PTH208 - the names alone
    except OSError:
        return 0


def run_and_kill(command: list[str], out: Path, chance: random.Random, *, n_done: int, while_writing: bool) -> bool:
    """Kill a run after a number of further images; return whether it was killed before it ended."""
    wanted = n_records(out) + n_done
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and n_records(out) < wanted:
            time.sleep(0.001)
        if not while_writing:
            time.sleep(chance.uniform(0, 0.1))
        while process.poll() is None and while_writing and not is_writing(out):
            pass
        process.kill()
    return process.returncode not in (0, 1)


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", help="default: the bundled model")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        images, calm, out = Path(folder, "images"), Path(folder, "calm"), Path(folder, "out")
        images.mkdir()
        for seed in range(arguments.images):
            field = fluorescence_field(seed, height=96 + seed % 32, width=128, n_nuclei=8)[0]
            Image.fromarray(field).save(images / f"{seed:04d}.png")
        model = [] if arguments.model is None else ["--model", arguments.model]
        subprocess.run([INFER, str(images), "--out", str(calm), *model], check=True, stdout=subprocess.DEVNULL)
        expected = contents(calm)
        command = [INFER, str(images), "--out", str(out), *model, "--resume"]
        most = max(1, 2 * arguments.images // arguments.kills - 1)
        n_kills, n_while_writing, n_runs_ended = 0, 0, 0
        while n_kills < arguments.kills:
            n_done = chance.randint(0, most)
            if not run_and_kill(command, out, chance, n_done=n_done, while_writing=n_kills % 2 == 0):
                n_runs_ended += 1
                if contents(out) != expected:
                    problems.append("a run that finished differs from the undisturbed one")
                shutil.rmtree(out)
                continue
            n_kills += 1
            n_while_writing += is_writing(out)
            found = contents(out)
            final = {name: found[name] for name in found if name.partition("/")[0] in RESULT_FOLDERS}
            wrong = sorted(name for name, content in final.items() if expected.get(name) != content)
            problems += [f"after kill {n_kills}: {name} is incomplete" for name in wrong]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            problems.append(f"the last run ended with {done.returncode}: {done.stderr}")
        found = contents(out)
        problems += [f"in the end: {n} differs" for n in sorted(found | expected) if found.get(n) != expected.get(n)]
        if (out / PARTIAL_FOLDER).exists():
            problems.append("in the end: leftovers")
    print(
        f"{arguments.images} images, {n_kills} kills, {n_while_writing} of them with a file half written, "
        f"{n_runs_ended} runs that ended before their kill; {len(expected)} files compared, {len(problems)} problem(s)"
    )
    print("\n".join(problems))
    if problems or 2 * n_while_writing < n_kills:
        sys.exit(1)


if __name__ == "__main__":
    main()
