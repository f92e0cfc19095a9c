"""Errors of the plugin. They are shown to the user as sentences."""

from __future__ import annotations

from nuclei_runtime import NucleiError


class LayerError(NucleiError, ValueError):
    """A layer is not what is expected of it."""


class FolderError(NucleiError, OSError):
    """A folder cannot be opened or saved to."""
