"""Shared by all commands: running a function as a command, and turning an error into a sentence and an exit code."""

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
from typing import Annotated, Any, NoReturn

import typer

from nuclei_runtime.errors import MissingExtraError, NucleiError
from nuclei_runtime.faults import machine_error
from nuclei_runtime.steps.stains import AS_IS, STAINS

EXIT_SOME_FAILED = 1
EXIT_OF_SIGNAL = 128

_STDERR = 2
"""The file descriptor to which native libraries write."""

_EXTRA_OF_PACKAGE = {"onnxruntime": "cpu", "watchfiles": "watch"}
"""Extras that the commands of the runtime may need."""


def known_stain(text: str) -> str:
    """Return the name of a stain, or raise `typer.BadParameter` if there is none of this name."""
    if text not in (AS_IS, *STAINS):
        raise typer.BadParameter(f"found {text!r}, expected one of {', '.join((AS_IS, *STAINS))}")
    return text


StainOption = Annotated[
    str | None,
    typer.Option(
        "--stain",
        metavar="|".join((AS_IS, *STAINS)),
        parser=known_stain,
        help="How the network sees colour images: as they are (rgb), or as one stain. Default: chosen for each image.",
    ),
]
ViewOption = Annotated[
    str | None,
    typer.Option(
        "--view",
        metavar="as-is|SCALE,STAIN[,tta]",
        help="Use the same view for every image: as-is, or a scale and a stain, such as 1/2,he.",
    ),
]
"""Options of the commands that segment."""


def run_command(command: Callable[..., None], extras: Mapping[str, str] | None = None) -> NoReturn:
    """Parse the process's arguments for one command, run it and exit.

    A command raises `typer.Exit` to exit with a code of its own; the default is 0. An error of nuclei-edge becomes a
    sentence on stderr and the exit code of its class.

    Parameters
    ----------
    command : callable
    extras : mapping of str to str, optional
        The extra that installs each package that this command imports and the runtime does not.
    """
    # tifffile logs, and Pillow warns about, what is wrong with damaged files; the error of the reader already says it.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The encoding of a pipe may lack a character of a file's name; stderr escapes such characters anyway.
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
        fail(machine_error(error, str(error.filename or "a file")))
    sys.exit(0)


_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")
"""SIGBREAK is what Windows has for SIGTERM: Ctrl-Break, a console that is closed, a service that is stopped."""


class StopSignals:
    """Handles Ctrl-C and SIGTERM while a ``with`` statement runs.

    Without an event, a signal interrupts at once with `KeyboardInterrupt`. With an event, the first signal sets it and
    only the second one interrupts. A signal that the process was started to ignore stays ignored.

    Parameters
    ----------
    event : Event, optional

    Attributes
    ----------
    received : int, optional
        The first signal received.
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
        """128 plus the number of the signal, as in shells."""
        return EXIT_OF_SIGNAL + (self.received or signal.SIGINT)


def printable(text: str) -> str:
    """Return a text made safe for the terminal: a file's name may hold line breaks and terminal control codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def require_extra(extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed before any work begins.

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
    """Discard everything printed on stderr, including what native code prints."""
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
    """Print an error as one sentence and exit with the code of its class."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
