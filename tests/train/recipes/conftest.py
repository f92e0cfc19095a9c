"""How the tests of fitting find nuclei in maps that they draw: with nothing left out."""

from __future__ import annotations

from nuclei_runtime.steps.step import Step

METHOD = Step(
    "marker_watershed",
    {
        "threshold": 0.5,
        "marker_distance": 0.4,
        "marker_border": 0.5,
        "min_peak_distance": 0.0,
        "min_marker_area_px": 1,
        "min_area_px": 1,
    },
)
