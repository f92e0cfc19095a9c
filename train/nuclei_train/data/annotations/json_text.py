"""JSON of other programs."""

from __future__ import annotations

import json
from typing import Any

from nuclei_train.errors import DatasetError


def parse_json(content: bytes, name: str) -> Any:
    """Return the document.

    Raises
    ------
    DatasetError
        It is not JSON in UTF-8, or is nested too deeply; the message names the file.
    """
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DatasetError(f"{name}: cannot be read as JSON: {error}; export it again") from error
