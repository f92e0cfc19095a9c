"""Inspects the contents of an ONNX file before ONNX Runtime loads it.

ONNX Runtime follows the ``external_data`` of a tensor to other files, and a model may call operators outside the ONNX
standard. Both happen in its loader, so the check has to come before. The onnx package could do it but is too large for
a machine at a microscope. Little of Protocol Buffers is needed: an ONNX file consists of nested fields, each with a
number, a type and a length. Names and numbers: ``onnx.proto`` of the ONNX standard; encoding:
https://protobuf.dev/programming-guides/encoding.

The check errs on the side of refusal: it refuses what it does not understand, and where Protocol Buffers lets the last
of several fields win, it inspects all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from nuclei_runtime.errors import ModelFormatError

STANDARD_DOMAINS = ("", "ai.onnx")
"""The two names of the domain of standard operators, which include quantised ones. ``com.microsoft`` of ONNX Runtime is
not allowed: its ``EPContext`` is a program for a device, which may be in another file."""

_STANDARD = {name.encode() for name in STANDARD_DOMAINS}

MAX_FIELDS = 200_000
"""Most fields that are inspected; a network of this project has a few thousand."""

MAX_DEPTH = 16
"""Most levels of nested messages; a graph without subgraphs has five."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# For each message, the messages inside it by field number. No other field holds a tensor, an operator or a graph.
_MESSAGES = {
    "model": {7: "graph", 14: "metadata"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "metadata": {},
}

_REFUSED = {
    ("tensor", 13): "a tensor whose values are in another file",
    ("tensor", 14): "a tensor whose values are in another file",
    ("model", 20): "instructions for training",
    ("model", 25): "operators of its own",
}

_SETTINGS_KEY = b"ort_config"
"""If ORT_LOAD_CONFIG_FROM_MODEL is set, ONNX Runtime reads threads and names of files to write from this metadata."""

_NODE_OPERATOR, _NODE_DOMAIN, _METADATA_KEY = ("node", 4), ("node", 7), ("metadata", 1)

_SHOWN_CHARACTERS = 60


def check_contents(content: bytes, source: str) -> None:
    """Refuse a model that is not a single file of standard operators.

    Parameters
    ----------
    content : bytes
        The whole file.
    source : str
        Where it comes from, for the message.

    Raises
    ------
    ModelFormatError
        The file is damaged or not ONNX, refers to other files, calls operators outside `STANDARD_DOMAINS`, contains
        functions, training information or settings for ONNX Runtime, has a metadata entry twice, or exceeds
        `MAX_FIELDS` or `MAX_DEPTH`.
    """
    try:
        _Walk(content).message("model", 0, len(content), 0)
    except _DamagedError as error:
        raise ModelFormatError(
            f"{source}: not an ONNX model that this ONNX Runtime can load: {error}; "
            "give an ONNX file written by nuclei-export"
        ) from None
    except _RefusedError as error:
        raise ModelFormatError(
            f"{source}: refused, because it has {error}; "
            "a model is one file of standard operators: export it again with nuclei-export"
        ) from None


class _DamagedError(Exception):
    """The bytes are not an ONNX file."""


class _RefusedError(Exception):
    """The file contains something that a model must not contain."""


class _Walk:
    """A walk over the fields of a file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.n_fields = 0
        self.metadata_keys: set[bytes] = set()

    def message(self, kind: str, start: int, stop: int, depth: int) -> None:
        """Inspect one message and the messages inside it."""
        if depth > MAX_DEPTH:
            raise _RefusedError(f"graphs nested beyond {MAX_DEPTH} levels")
        operator, foreign = b"", None
        for number, wire_type, value, end in self.fields(start, stop):
            field = (kind, number)
            # The field that says where the values of a tensor are is a number; 0 is the file itself.
            if field in _REFUSED and (wire_type == _BYTES or value != 0):
                raise _RefusedError(_REFUSED[field])
            if wire_type != _BYTES:
                continue
            if number in _MESSAGES[kind]:
                self.message(_MESSAGES[kind][number], value, end, depth + 1)
            elif field == _NODE_OPERATOR:
                operator = self.content[value:end]
            elif field == _NODE_DOMAIN and self.content[value:end] not in _STANDARD:
                foreign = self.content[value:end]
            elif field == _METADATA_KEY:
                key = self.content[value:end]
                if key == _SETTINGS_KEY:
                    raise _RefusedError("settings of its own for ONNX Runtime")
                if key in self.metadata_keys:
                    raise _RefusedError(f"the metadata {_shown(key)} twice")
                self.metadata_keys.add(key)
        if foreign is not None:
            raise _RefusedError(
                f"the operator {_shown(operator)} of {_shown(foreign)}, which is not in the ONNX standard"
            )

    def fields(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield for each field its number, its wire type, its value or where its bytes start, and where it ends."""
        position = start
        while position < stop:
            self.n_fields += 1
            if self.n_fields > MAX_FIELDS:
                raise _RefusedError(f"more than {MAX_FIELDS} fields")
            tag, position = self.varint(position, stop)
            number, wire_type = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise _DamagedError(f"a field has the number {number}")
            value = position
            if wire_type == _VARINT:
                value, position = self.varint(position, stop)
            elif wire_type == _BYTES:
                length, value = self.varint(position, stop)
                position = value + length
            elif wire_type in (_FIXED64, _FIXED32):
                position += 8 if wire_type == _FIXED64 else 4
            else:
                raise _DamagedError(f"a field has the type {wire_type}")
            if position > stop:
                raise _DamagedError("it ends within a field")
            yield number, wire_type, value, position

    def varint(self, position: int, stop: int) -> tuple[int, int]:
        """Return a number, which has seven bits per byte, lowest first, and where it ends."""
        value = 0
        for index, byte in enumerate(self.content[position : min(position + 10, stop)]):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value, position + index + 1
        raise _DamagedError("it ends within a number, or a number is too long")


def _shown(text: bytes) -> str:
    spelt = ascii(text.decode("utf-8", "replace"))
    return spelt if len(spelt) <= _SHOWN_CHARACTERS else f"{spelt[:_SHOWN_CHARACTERS]}..."
