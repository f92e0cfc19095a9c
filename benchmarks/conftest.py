"""What the benchmarks share: images, sessions, references measured in the same rounds, and reasons for what is absent.

    pytest benchmarks [--sample-zip stage1_train.zip --sample-ids IDS.txt] --benchmark-json=FILE

Run them on a machine that does nothing else. Tests that need the images are skipped, and named, without them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.beside import Beside, measure_beside
from benchmarks.hardware import describe_hardware
from benchmarks.peers.harness import read_images

_not_measured: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run in one process, unlike the tests: benchmarks at the same time would slow each other down."""
    config.option.numprocesses = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample-zip", type=Path, help="stage1_train.zip")
    parser.addoption("--sample-ids", type=Path, help="the identifiers of the images to use, one a line")


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Return the hardware; what pytest-benchmark itself would note names the machine."""
    return describe_hardware()


def pytest_benchmark_generate_commit_info() -> dict[str, Any]:
    """Return nothing: results are committed with the code that they are of."""
    return {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = (yield).get_result()
    if report.skipped:
        _not_measured[item.name] = str(report.longrepr[2]).removeprefix("Skipped: ")


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Name what was not measured beside what was."""
    output_json["not_measured"] = _not_measured


@pytest.fixture(scope="session")
def sample(request: pytest.FixtureRequest) -> list[bytes]:
    """The contents of the image files that peers are compared on."""
    archive, ids = (request.config.getoption(name) for name in ("--sample-zip", "--sample-ids"))
    if archive is None or ids is None:
        pytest.skip("needs --sample-zip and --sample-ids")
    return read_images(archive, ids)


@pytest.fixture
def beside(benchmark: BenchmarkFixture) -> Beside:
    """`benchmarks.beside.measure_beside` with this test's benchmark."""
    return partial(measure_beside, benchmark)
