"""Shared by the benchmarks: images, sessions, references measured in the same rounds, reasons for what is missing.

    pytest benchmarks [--sample-zip stage1_train.zip --sample-ids IDS.txt] --benchmark-json=FILE

Run them on a machine that does nothing else. Without the images, the tests that need them are skipped and reported.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.hardware import describe_hardware
from benchmarks.peers.harness import read_images
from benchmarks.side_by_side import SideBySide, measure_side_by_side

_not_measured: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run in one process, unlike the tests: benchmarks at the same time would slow each other down."""
    config.option.numprocesses = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sample-zip", type=Path, help="stage1_train.zip")
    parser.addoption("--sample-ids", type=Path, help="identifiers of the images to use, one per line")


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Return the hardware; pytest-benchmark itself would record the machine's name."""
    return describe_hardware()


def pytest_benchmark_generate_commit_info() -> dict[str, Any]:
    """Return nothing: results are committed together with the measured code."""
    return {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = (yield).get_result()
    if report.skipped:
        _not_measured[item.name] = str(report.longrepr[2]).removeprefix("Skipped: ")


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Add what was not measured, with the reasons."""
    output_json["not_measured"] = _not_measured


@pytest.fixture(scope="session")
def sample(request: pytest.FixtureRequest) -> list[bytes]:
    """Return the contents of the image files on which peers are compared."""
    archive, ids = (request.config.getoption(name) for name in ("--sample-zip", "--sample-ids"))
    if archive is None or ids is None:
        pytest.skip("needs --sample-zip and --sample-ids")
    return read_images(archive, ids)


@pytest.fixture
def side_by_side(benchmark: BenchmarkFixture) -> SideBySide:
    """Return `benchmarks.side_by_side.measure_side_by_side` with this test's benchmark."""
    return partial(measure_side_by_side, benchmark)
