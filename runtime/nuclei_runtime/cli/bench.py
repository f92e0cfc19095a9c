"""nuclei-bench: measures the speed of the bundled models. The docstring of `bench` is the help text."""

from __future__ import annotations

from typing import NoReturn

from nuclei_runtime.cli.command import run_command


def main() -> NoReturn:
    """Entry point of nuclei-bench."""
    run_command(bench)


def bench() -> None:
    """Measure how fast the bundled models run on this machine, and print the fastest command.

    Tries each execution provider, precision and number of threads on synthetic images: for a folder, and for one image
    at a time, as in a program that embeds the model. Takes about a minute. Do not run anything else at the same time.
    """
    from nuclei_runtime.checks.bench import report, survey

    for line in report(survey()):
        print(line)
