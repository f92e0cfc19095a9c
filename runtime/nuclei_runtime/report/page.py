"""Puts the page together: the template, its style and script, and blocks of data.

Nothing that comes from a file name or a cell of a table is ever HTML here: it is JSON in a block of data, in which no
tag can begin or end, and the script writes it as text. The page may run no other script, and may load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from typing import Any, TextIO

from nuclei_runtime.results.layout import REPORT_MARK

SCRIPTS = ("data.js", "charts.js", "filters.js", "gallery.js", "viewer.js", "plate.js", "main.js")
"""In the order in which they are joined into one script."""

_PAGE = files("nuclei_runtime.report") / "page"
_DATA_PLACE = "<!-- data -->"


class Page:
    """Writes a page, its blocks of data one after the other.

    Parameters
    ----------
    file : text file
    title : str
    """

    def __init__(self, file: TextIO, title: str) -> None:
        style = _text("report.css")
        script = "\n".join(map(_text, SCRIPTS))
        policy = (
            f"default-src 'none'; img-src data:; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
            "base-uri 'none'; form-action 'none'"
        )
        filled = {"title": html.escape(title), "policy": policy, "generator": REPORT_MARK, "style": style}
        before, after = _text("template.html").split(_DATA_PLACE)
        for name, text in filled.items():
            before = before.replace(f"<!-- {name} -->", text)
        self._file = file
        self._after = after.replace("<!-- script -->", script)
        file.write(before)

    def add_json(self, name: str, value: Any) -> None:
        """Add a block of JSON."""
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # nothing but ASCII
        for character in "<>&":
            text = text.replace(character, f"\\u{ord(character):04x}")
        self._add(name, "application/json", text)

    def add_bytes(self, name: str, content: bytes) -> None:
        """Add a block of bytes, in base64."""
        self._add(name, "application/octet-stream", base64.b64encode(content).decode())

    def _add(self, name: str, kind: str, text: str) -> None:
        self._file.write(f'<script type="{kind}" id="{name}">{text}</script>\n')

    def close(self) -> None:
        """Write the end of the page."""
        self._file.write(self._after)


def _text(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
