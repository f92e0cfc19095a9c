"""What PyInstaller needs to freeze a program that uses this package."""

from __future__ import annotations

from pathlib import Path


def hook_directories() -> list[str]:
    """Return the folder of the hook. PyInstaller finds this function by the entry point ``pyinstaller40``."""
    return [str(Path(__file__).parent)]
