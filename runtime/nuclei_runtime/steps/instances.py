"""Maps that a network gives -> labelled nuclei.

The method and its parameters stand in the model card under ``postprocessing``; `METHODS` has a row for each that
exists.
"""

from __future__ import annotations

from nuclei_runtime.arrays import Labels, Maps
from nuclei_runtime.steps.connected_components import CONNECTED_COMPONENTS
from nuclei_runtime.steps.marker_watershed import MARKER_WATERSHED
from nuclei_runtime.steps.step import Step, scale_areas
from nuclei_runtime.steps.windows import Window

METHODS = {"connected_components": CONNECTED_COMPONENTS, "marker_watershed": MARKER_WATERSHED}


def scale_method(method: Step, factor: float) -> Step:
    """Return a method with its areas in pixels of an image that the network sees `factor` times as large."""
    return scale_areas(method, METHODS[method.id].arguments, factor)


def find_instances(maps: Maps, method: Step, window: Window | None = None) -> Labels:
    """Label the nuclei with the method that a model card names.

    Raises
    ------
    CutNucleusError
        The window does not hold a nucleus of its own wholly; never without a window.
    """
    return METHODS[method.id].find(maps, window, **method.kwargs)
