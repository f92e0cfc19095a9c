"""What all commands share: how a function becomes a command, and how an error becomes one sentence and an exit code."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Event
from types import FrameType
from typing import Any, NoReturn

import typer

from nuclei_runtime.errors import MissingExtraError, ModelError, NucleiError, ParityError, RuntimeEnvironmentError

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_OF_SIGNAL = 128
EXIT_ENVIRONMENT = 3
"""The environment or the model, as against the usage: the same command may work elsewhere."""

_STDERR = 2
"""Its file descriptor: what libraries in C++ write to."""

_EXTRA_OF_PACKAGE = {
    "onnxruntime": "cpu",
    "watchfiles": "watch",
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


class StopSignals:
    """What Ctrl-C and SIGTERM do while a ``with`` statement runs.

    Without an event they interrupt what is being done, as `KeyboardInterrupt`. With one the first of them sets it,
    and only the second interrupts. A signal that the process was started to ignore stays ignored.

    Parameters
    ----------
    event : Event, optional

    Attributes
    ----------
    received : int, optional
        The first signal that came.
    """

    def __init__(self, event: Event | None = None) -> None:
        self.received: int | None = None
        self._event = event
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        first = self.received is None
        self.received = self.received or number
        if self._event is not None:
            self._event.set()
        if self._event is None or not first:
            raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells count it."""
        return EXIT_OF_SIGNAL + (self.received or signal.SIGINT)


def printable(text: str) -> str:
    """Return a text for the terminal: a file's name may hold line breaks, and codes that a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


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
