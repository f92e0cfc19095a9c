"""nuclei-bench: how fast the bundled models run on this machine. The docstring is the help text."""

from __future__ import annotations

from typing import NoReturn

from nuclei_runtime.cli.command import run_command


def main() -> NoReturn:
    """Entry point of nuclei-bench."""
    run_command(bench)


def bench() -> None:
    """Measure how fast the bundled models run on this machine, and recommend flags for nuclei-infer.

    Every execution provider, precision and number of threads takes its turn on synthetic images. Takes less than a
    minute; leave the machine alone meanwhile.
    """
    from nuclei_runtime.checks.bench import report, survey

    for line in report(survey()):
        print(line)
