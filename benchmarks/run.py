"""Measure everything in one run and write the results, the plots and the page.

    python -m benchmarks.run DATA --peers FOLDER [--environments DIR] [--models DIR] [--passes N] [--out DIR]
    python -m benchmarks.run --page                # only the page and the plots, from existing results

`benchmarks/peers/run.py` explains DATA, FOLDER, DIR and N. Run it on a machine that does nothing else. The first run
creates the environments, later ones reuse them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, EnvironmentFailedError, clean_variables, installed_mb, python_of
from benchmarks.hardware import describe_hardware
from benchmarks.page import render
from benchmarks.peers.run import add_arguments, archive_of, compare
from benchmarks.plots import draw
from nuclei_runtime import Segmenter
from nuclei_runtime.resources import cpu_count

HERE = Path(__file__).parent
RESULTS = "results.json"

LIBRARIES = "benchmarks/test_libraries.py"


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return the results."""
    environments, folder = given.environments.resolve(), given.peers.resolve()
    archive = archive_of(given.data).resolve()
    peers = compare(archive, folder, environments, given.models, given.passes)
    card = Segmenter().card
    sample = ("--sample-zip", str(archive), "--sample-ids", str(folder / "sample_ids.txt"))
    own = {**os.environ, "OPENBLAS_NUM_THREADS": str(cpu_count())}  # NumPy's sgemm gets as many as the network
    return {
        "hardware": describe_hardware(),
        "model": f"{card.name} {card.version}",
        "peers": peers,
        "installed_mb": installed_mb("nuclei_edge", environments),
        "own": _pytest(Path(sys.executable), own, "benchmarks", f"--ignore={LIBRARIES}", *sample),
        "openvino": _elsewhere("openvino", environments, "OpenVINOExecutionProvider", "benchmarks/test_network.py"),
        "libraries": _elsewhere("libraries", environments, "libraries for instances", LIBRARIES, *sample),
    }


def _elsewhere(name: str, environments: Path, what: str, *arguments: str) -> dict[str, Any]:
    """Run pytest-benchmark in another environment. If that cannot be created, report its benchmarks as not measured."""
    try:
        python = python_of(name, environments)
    except EnvironmentFailedError as error:
        return {"rows": [], "not_measured": {what: str(error)}, "packages": {}}
    return _pytest(python, clean_variables(), *arguments)


def _pytest(python: Path, variables: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Run pytest-benchmark and return what the page needs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.json"
        # Without the options in pyproject.toml: the environments of the peers have no pytest-xdist.
        options = ["-q", "-o", "addopts=--import-mode=importlib", f"--benchmark-json={path}"]
        command = [str(python), "-m", "pytest", *options, *arguments]
        subprocess.run(command, cwd=ROOT, env=variables, check=True)
        return compact(json.loads(path.read_text(encoding="utf-8")))


def compact(document: dict[str, Any]) -> dict[str, Any]:
    """Reduce pytest-benchmark's document to what the page shows."""
    rows = [
        {
            "what": row["name"].partition("[")[0].removeprefix("test_"),
            "params": row["params"] or {},
            "seconds": row["stats"]["data"],
            **row["extra_info"],
        }
        for row in document["benchmarks"]
    ]
    return {
        "rows": rows,
        "not_measured": document["not_measured"],
        "packages": document["machine_info"]["packages"],
    }


def main() -> None:
    """Measure, and write the results, the plots and the page."""
    parser = argparse.ArgumentParser()
    if "--page" in sys.argv:
        parser.add_argument("--page", action="store_true")
    else:
        add_arguments(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, default=HERE / "results")
    given = parser.parse_args()
    path = given.out / RESULTS
    if "page" not in given:
        given.out.mkdir(parents=True, exist_ok=True)
        path.write_text(_json(measure(given)), encoding="utf-8")
    results = json.loads(path.read_text(encoding="utf-8"))
    plots = draw(results, given.out)
    links = {title: os.path.relpath(plot, HERE).replace(os.sep, "/") for title, plot in plots.items()}
    (HERE / "README.md").write_text(render(results, links), encoding="utf-8")


def _json(results: dict[str, Any]) -> str:
    """Return JSON with seconds to five digits: more would be noise, and would change lines for nothing."""
    rounded = json.loads(json.dumps(results), parse_float=lambda digits: float(f"{float(digits):.5g}"))
    return json.dumps(rounded, indent=1, sort_keys=False) + "\n"


if __name__ == "__main__":
    main()
