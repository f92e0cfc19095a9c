"""Measure the speed of this project and of alternatives in one run, and print the ratios.

    python -m benchmarks.peers.run DATA --peers FOLDER --environments DIR [--models DIR] [--passes N]

DATA is stage1_train.zip. FOLDER holds `sample_ids.txt`, the identifiers of the images, and `stardist_model/`, a
StarDist model's folder with its network also as `model.onnx`. DIR keeps one environment per peer.
Every peer loads and makes one pass that is not timed, while its memory is sampled. Then the passes take turns, so that
changes on the machine affect all of them equally. Decoding counts; results are computed but not written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from benchmarks.environments import ENVIRONMENTS, ROOT, clean_variables, python_of
from benchmarks.figures import busy_ratio, peer_speed, peer_times
from benchmarks.hardware import describe_hardware
from benchmarks.huge_image import SAMPLING_S, tree_bytes
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.resources import cpu_count

DEFAULT_PASSES = 3
PAUSE_S = 0.5
"""Pause before a pass: the previous peer's threads may still spin and take this one's cores."""
REFERENCE = "StarDist, TensorFlow"


@dataclass(frozen=True)
class Peer:
    """A script of this folder, its environment and its arguments."""

    script: str
    environment: str
    arguments: tuple[str, ...] = ()


def peers(stardist_model: Path, models: Path) -> dict[str, Peer]:
    """Return the candidates by their names in the table."""
    stardist = ("--model", str(stardist_model))
    found = {
        REFERENCE: Peer("stardist_tensorflow", "stardist", stardist),
        "StarDist's network, ONNX Runtime": Peer("stardist_onnx", "stardist", stardist),
        "Otsu and watershed, scikit-image": Peer("otsu_watershed", "otsu_watershed"),
    }
    for precision, path in BUNDLED_MODELS.items():
        for mode, words in (("folder", "a folder"), ("single", "one image at a time")):
            arguments = ("--model", str(models / path.name), "--mode", mode)
            found[f"nuclei-edge {precision}, {words}"] = Peer("nuclei_edge", "nuclei_edge", arguments)
    return found


class RunningPeer:
    """The process of a peer, after loading.

    Attributes
    ----------
    result : dict
        ``images``, ``megapixels``, ``loaded_after_s``, ``peak_mib``, ``nuclei``; and of each timed pass ``seconds``
        and ``cpu_seconds``.
    """

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name
        start = time.perf_counter()
        with _peak_bytes(process.pid) as peak:
            loaded = self._answer()
            loaded_after = time.perf_counter() - start
            nuclei = self._pass()["nuclei"]
        self.result: dict[str, Any] = {
            **loaded,
            "loaded_after_s": loaded_after,
            "peak_mib": peak[0] / 2**20,
            "nuclei": nuclei,
            "seconds": [],
            "cpu_seconds": [],
        }

    def time_pass(self) -> None:
        """Make a pass and record its time."""
        time.sleep(PAUSE_S)
        took = self._pass()
        for key in ("seconds", "cpu_seconds"):
            self.result[key].append(took[key])

    def _pass(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._name} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def _peak_bytes(pid: int) -> Iterator[list[int]]:
    """Sample the memory of a process and its children; the list's only item is the maximum so far."""
    peak, over, process = [0], Event(), psutil.Process(pid)

    def watch() -> None:
        while not over.wait(SAMPLING_S):
            peak[0] = max(peak[0], tree_bytes(process))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield peak
        finally:
            over.set()
            watching.result()


def compare(archive: Path, folder: Path, environments: Path, models: Path, passes: int) -> dict[str, Any]:
    """Run all peers and return their results by name, in the order of the table."""
    chosen = peers(folder / "stardist_model", models)
    pythons = {name: python_of(name, environments) for name in ENVIRONMENTS if name in _needed(chosen)}
    with ExitStack() as running:
        started = {}
        for name, peer in chosen.items():
            command = [pythons[peer.environment], "-m", f"benchmarks.peers.{peer.script}", *peer.arguments]
            command += ["--zip", archive.resolve(), "--ids", (folder / "sample_ids.txt").resolve()]
            process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=clean_variables(),
            )
            running.enter_context(process)
            started[name] = RunningPeer(process, name)
        for _ in range(passes):
            for peer_running in started.values():
                peer_running.time_pass()
    return {name: one.result for name, one in started.items()}


def _needed(chosen: dict[str, Peer]) -> set[str]:
    return {peer.environment for peer in chosen.values()}


def ratio_table(results: dict[str, Any], cores: int) -> str:
    """Return a Markdown table of medians over the passes; a ratio is the median of the ratios of each round."""
    lines = [
        f"| | images/s | MP/s | relative to {REFERENCE} | wall time / CPU time per core "
        "| loading time | peak memory | nuclei |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in results.items():
        lines.append(
            f"| {name} | {one['images'] / statistics.median(one['seconds']):.1f} | {peer_speed(one):.2f} "
            f"| {peer_times(results, name, REFERENCE):.2f} "
            f"| {busy_ratio(one['seconds'], one['cpu_seconds'], cores):.2f} "
            f"| {one['loaded_after_s']:.1f} s | {one['peak_mib']:.0f} MiB | {one['nuclei']} |"
        )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the comparison."""
    parser.add_argument("data", metavar="DATA", type=Path, help="stage1_train.zip, or its folder")
    parser.add_argument("--peers", metavar="FOLDER", type=Path, required=True, help="sample_ids.txt, stardist_model/")
    parser.add_argument("--environments", metavar="DIR", type=Path, default=ROOT / "build" / "peers")
    parser.add_argument("--models", metavar="DIR", type=Path, default=BUNDLED_MODELS["fp32"].parent)
    parser.add_argument("--passes", metavar="N", type=int, default=DEFAULT_PASSES)


def archive_of(data: Path) -> Path:
    """Return the path of stage1_train.zip, given that path or its folder."""
    return data / "stage1_train.zip" if data.is_dir() else data


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = parser.parse_args()
    results = compare(archive_of(given.data), given.peers.resolve(), given.environments, given.models, given.passes)
    hardware = describe_hardware()
    print(f"{hardware['processor']}, {hardware['cores']} cores, {', '.join(hardware['flags'])}\n")
    print(ratio_table(results, cpu_count()))


if __name__ == "__main__":
    main()
