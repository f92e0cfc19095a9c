"""From the maps that a network returns to labelled nuclei.

A model card names the method and its arguments under ``postprocessing``; `METHODS` has one row per existing method.
"""

from __future__ import annotations

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.steps.connected_components import CONNECTED_COMPONENTS
from nuclei_runtime.steps.marker_watershed import MARKER_WATERSHED
from nuclei_runtime.steps.step import Step, scale_areas
from nuclei_runtime.steps.windows import Window

METHODS = {"connected_components": CONNECTED_COMPONENTS, "marker_watershed": MARKER_WATERSHED}


def scale_method(method: Step, factor: float) -> Step:
    """Return a method with its areas in pixels of the image, which the network sees enlarged by a factor."""
    return scale_areas(method, METHODS[method.id].arguments, factor)


def find_instances(maps: Maps, method: Step, window: Window | None = None) -> Labels:
    """Label the nuclei with a method that a model card names.

    Raises
    ------
    CutNucleusError
        A nucleus that belongs to the window extends beyond it; never raised without a window.
    """
    return METHODS[method.id].find(maps, window, **method.kwargs)
