"""napari without a screen."""

from __future__ import annotations

import os

if "DISPLAY" not in os.environ and "WAYLAND_DISPLAY" not in os.environ and os.name == "posix":
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
