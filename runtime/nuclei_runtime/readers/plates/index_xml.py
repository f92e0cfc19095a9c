"""Reads the records of large XML indexes one by one, within bounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree
from xml.parsers import expat

from nuclei_runtime.errors import ImageReadError

_MAX_XML_BYTES = 1 << 29
"""An index of 384 wells, 9 fields and 8 channels has 47 MB."""

_MAX_ELEMENTS = 1000
"""Within a record; a plane of Harmony has 35."""

_MAX_DEPTH = 100
_PIECE_BYTES = 1 << 16


class _FoundRootError(Exception):
    """The root element was reached: no document type can follow."""


def records(path: Path, names: Collection[str]) -> Iterator[ElementTree.Element]:
    """Yield the elements with certain names, without their namespace, and forget each afterwards.

    Raises
    ------
    ImageReadError
        The file is missing, damaged or too large, or declares a document type, which can expand without bound.
    """
    if not path.is_file():
        raise ImageReadError(f"{path.name}, which belongs to the index of the plate, is missing; copy the whole plate")
    if path.stat().st_size > _MAX_XML_BYTES:
        raise ImageReadError(f"{path.name} is larger than {_MAX_XML_BYTES} bytes, too large for the index of a plate")
    with path.open("rb") as file:
        try:
            _refuse_document_type(file, path.name)
            file.seek(0)
            yield from _records(file, names, path.name)
        except (ElementTree.ParseError, expat.ExpatError, LookupError, ValueError) as error:
            if isinstance(error, ImageReadError):
                raise
            # The last two are about the encoding that the file names.
            raise ImageReadError(f"{path.name} is damaged: {error}; copy the plate again") from error


def local_name(tag: str) -> str:
    """Return a name without its namespace."""
    return tag.rpartition("}")[2]


def number(values: Mapping[str, str], name: str, default: str = "") -> int:
    """Return the number that a record gives under a name.

    Raises
    ------
    ImageReadError
        It is missing or something else.
    """
    text = values.get(name, default)
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ImageReadError(f"the index of the plate says {name} {text[:50] or 'nothing'}, expected a number")
    return int(text)


def _refuse_document_type(file: BinaryIO, name: str) -> None:
    def refuse(*_: object) -> None:
        raise ImageReadError(f"{name} is refused: it declares a document type, which can expand without bound")

    def stop(*_: object) -> None:
        raise _FoundRootError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = stop
    try:
        while piece := file.read(_PIECE_BYTES):
            parser.Parse(piece)
    except _FoundRootError:
        return
    parser.Parse(b"", True)


def _records(file: BinaryIO, names: Collection[str], name: str) -> Iterator[ElementTree.Element]:
    open_elements: list[ElementTree.Element] = []
    record: ElementTree.Element | None = None
    n_inside = 0
    for event, element in ElementTree.iterparse(file, ("start", "end")):
        if event == "start":
            open_elements.append(element)
            n_inside += record is not None
            if n_inside > _MAX_ELEMENTS or len(open_elements) > _MAX_DEPTH:
                raise ImageReadError(f"{name} is damaged: its elements are nested too deeply")
            if record is None and local_name(element.tag) in names:
                record, n_inside = element, 0
            continue
        open_elements.pop()
        if record is not None and element is record:
            yield record
            record, n_inside = None, 0
        if record is None and open_elements:
            open_elements[-1].clear()
