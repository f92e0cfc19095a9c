"""One spelling of names: a Mac may decompose an accent, another system not, and a table may have either."""

from __future__ import annotations

import unicodedata


def composed(text: str) -> str:
    """Return a text with its accents composed (NFC), as all identifiers are, and all names that are compared."""
    return unicodedata.normalize("NFC", text)
