"""Imports TensorFlow without its messages on the user's terminal."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from nuclei_runtime.cli.command import silence_stderr


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keep TensorFlow's messages on processors and drivers, and absl's on file formats, off the user's terminal.

    Import TensorFlow inside. Version 2.21 prints the messages before it reads any setting, so stderr itself is silenced
    meanwhile. TF_CPP_MIN_LOG_LEVEL=0 in the environment lets everything through.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    logging.getLogger("absl").setLevel(logging.ERROR)
    with silence_stderr():
        yield
