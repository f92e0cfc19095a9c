"""What all commands share: how a function becomes a command, and how an error becomes one sentence and an exit code."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Event
from types import FrameType
from typing import Any, NoReturn

import typer

from nuclei_runtime.errors import MissingExtraError, NucleiError, RuntimeEnvironmentError

EXIT_SOME_FAILED = 1
EXIT_OF_SIGNAL = 128

_STDERR = 2
"""Its file descriptor: what libraries in C++ write to."""

_EXTRA_OF_PACKAGE = {"onnxruntime": "cpu", "watchfiles": "watch"}
"""The extras that the runtime's own commands may need."""


def run_command(command: Callable[..., None], extras: Mapping[str, str] | None = None) -> NoReturn:
    """Parse the process's arguments for one command, run it and exit.

    The command raises `typer.Exit` to leave with a code of its own; 0 is the default. Errors of nuclei-edge become
    a sentence on stderr and the exit code of their class.

    Parameters
    ----------
    command : callable
    extras : mapping of str to str, optional
        Package -> the extra that installs it, for packages that this command imports and the runtime does not.
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
        extra = (_EXTRA_OF_PACKAGE | dict(extras or {})).get(package)
        if extra is None:
            raise
        fail(MissingExtraError(package, extra))
    except OSError as error:  # a folder that cannot be written, a full disk
        fail(RuntimeEnvironmentError(str(error)))
    sys.exit(0)


_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")
"""SIGBREAK is what Windows has for SIGTERM: Ctrl-Break, a console that is closed, a service that is stopped."""


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
        for number in (getattr(signal, name) for name in _STOP_SIGNALS if hasattr(signal, name)):
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
def silence_stderr() -> Iterator[None]:
    """Keep whatever is printed on stderr off the user's terminal, native code's remarks included."""
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
    """Print an error as a person needs it and exit with the code of its class."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
