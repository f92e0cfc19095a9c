"""Reads a model file once, with a bound on its size, and checks its SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.errors import ModelDigestError, ModelFormatError, ModelNotFoundError
from nuclei_runtime.faults import is_of_machine, machine_error
from nuclei_runtime.model.onnx_contents import check_contents

MAX_MODEL_BYTES = 1 << 28
"""256 MiB, thirty times the largest model of this project. The file is in memory while it is loaded."""


@dataclass(frozen=True)
class ModelFile:
    """The contents of a model file.

    Attributes
    ----------
    content : bytes
        The whole file. These bytes are checked and loaded; the file is not opened again.
    sha256 : str
        Of `content`, 64 lower-case hexadecimal digits.
    """

    content: bytes
    sha256: str


def is_digest(text: str) -> bool:
    """Whether this is the form of a SHA-256: 64 hexadecimal digits, upper or lower case."""
    return re.fullmatch(r"[0-9a-fA-F]{64}", text) is not None


def read_model_file(path: str | os.PathLike[str], sha256: str | None = None) -> ModelFile:
    """Read a model file and check that it may be loaded.

    Parameters
    ----------
    path : path
    sha256 : str, optional
        The SHA-256 that the file must have: 64 hexadecimal digits, upper or lower case.

    Raises
    ------
    ModelNotFoundError
        There is no file, or it cannot be read.
    ModelDigestError
        The file has another SHA-256, or `sha256` is not a digest.
    ModelFormatError
        The file is larger than `MAX_MODEL_BYTES`, or `nuclei_runtime.model.onnx_contents.check_contents` refuses it.
    RuntimeEnvironmentError
        The machine is at fault: for example, the process may open no more files.
    """
    if sha256 is not None and not is_digest(sha256):
        raise ModelDigestError(f"sha256 {sha256!r}: expected the digest of the model: 64 hexadecimal digits")
    if not Path(path).is_file():  # reading a pipe or a device might never end
        raise ModelNotFoundError(f"{path}: no such model file; give an ONNX file written by nuclei-export")
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size) if size <= MAX_MODEL_BYTES else b""
    except OSError as error:
        if is_of_machine(error):
            raise machine_error(error, f"{path}: cannot be read") from error
        raise ModelNotFoundError(f"{path}: cannot be read: {error.strerror or error}; check its permissions") from error
    if size > MAX_MODEL_BYTES:
        raise ModelFormatError(
            f"{path}: {size} bytes, expected at most {MAX_MODEL_BYTES}: no model of nuclei-edge is larger; "
            "give an ONNX file written by nuclei-export"
        )
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise ModelDigestError(
            f"{path}: its SHA-256 is {found}, expected {sha256.lower()}; "
            "do not use this file unless you know where it comes from; download the model again from its source"
        )
    check_contents(content, str(path))
    return ModelFile(content, found)
