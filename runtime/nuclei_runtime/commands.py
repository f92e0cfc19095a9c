"""What all commands share: how a function becomes a command, and how an error becomes one sentence and an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NoReturn

import typer

from nuclei_runtime.errors import MissingExtraError, ModelError, NucleiError, ParityError, RuntimeEnvironmentError

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
"""The environment or the model, as against the usage: the same command may work elsewhere."""

_STDERR = 2
"""Its file descriptor: what libraries in C++ write to."""

_EXTRA_OF_PACKAGE = {
    "onnxruntime": "cpu",
    "pandas": "data",
    "matplotlib": "data",
    "tensorflow": "train",
    "keras": "train",
    "tensorboard": "train",
    "tf2onnx": "export",
    "onnx": "export",
}


def run_command(command: Callable[..., None]) -> NoReturn:
    """Parse the process's arguments for one command, run it and exit.

    The command raises `typer.Exit` to leave with a code of its own; 0 is the default. Errors of nuclei-edge become
    a sentence on stderr and exit code 3 where the model or the environment is at fault, else 2.
    """
    # tifffile logs and Pillow warns what they make of damaged files; the reader's own sentence says it already.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A pipe may not know a letter that stands in a file's name; stderr escapes such letters by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except NucleiError as error:
        fail(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF_PACKAGE:
            raise
        fail(MissingExtraError(package, _EXTRA_OF_PACKAGE[package]))
    except OSError as error:  # a folder that cannot be written, a full disk
        fail(RuntimeEnvironmentError(str(error)))
    sys.exit(0)


def require_extra(extra: str, *packages: str) -> None:
    """Look for the packages of an extra before any work is begun.

    Raises
    ------
    MissingExtraError
        One of them is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra)


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keep TensorFlow's remarks on processors and drivers, and absl's on file formats, off the user's terminal.

    TensorFlow is to be imported inside. It prints the remarks (2.21) before it reads any setting, so stderr itself
    is turned away for so long. TF_CPP_MIN_LOG_LEVEL=0 in the environment lets everything through.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    logging.getLogger("absl").setLevel(logging.ERROR)
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, _STDERR)
        os.close(kept)


def fail(error: NucleiError) -> NoReturn:
    """Print an error as a person needs it and exit with its code."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(EXIT_ENVIRONMENT if isinstance(error, RuntimeEnvironmentError | ModelError | ParityError) else EXIT_USAGE)
