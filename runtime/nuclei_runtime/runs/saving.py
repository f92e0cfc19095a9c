"""What a run saves: the words of ``--save``, and which extra they need."""

from __future__ import annotations

from importlib.util import find_spec

from nuclei_runtime.errors import InputsError, MissingExtraError
from nuclei_runtime.results.table_formats import TABLE_FORMATS, TableOptions
from nuclei_runtime.writers.outputs import CELLS, FORMATS_EXTRA, ORIGINAL_LABELS, OUTPUTS, TABLES, OutputOptions

_WITH_OTHERS = (TABLES, ORIGINAL_LABELS, CELLS)
"""Outputs that have no word of their own, because they come with others; see `OutputOptions.outputs`."""

_PACKAGES = {output.folder: output.package for output in OUTPUTS if output not in _WITH_OTHERS} | {
    name: form.package for name, form in TABLE_FORMATS.items()
}

SAVED = tuple(_PACKAGES)
"""Every word that ``--save`` takes."""


def parse_saved(text: str) -> tuple[OutputOptions, TableOptions]:
    """Return the outputs and the joined tables that a comma list names.

    Raises
    ------
    InputsError
        A word is not one of `SAVED`.
    MissingExtraError
        One of them needs a package that is not installed.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in _PACKAGES:
            raise InputsError(f"--save {text}: found {word!r}, expected one or more of: {', '.join(SAVED)}")
        package = _PACKAGES[word]
        if package is not None and find_spec(package) is None:
            raise MissingExtraError(package, FORMATS_EXTRA)
    saved = [word for word in SAVED if word in words]
    return (
        OutputOptions(tuple(word for word in saved if word not in TABLE_FORMATS)),
        TableOptions(tuple(word for word in saved if word in TABLE_FORMATS)),
    )
