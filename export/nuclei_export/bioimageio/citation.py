"""Who made the bundled model, and what to cite for it: as CITATION.cff, which is not part of an installation."""

from __future__ import annotations

AUTHORS = ("The nuclei-edge developers",)

TRAINING_DATA = {
    "text": (
        "Caicedo, J. C. et al. Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. "
        "Nature Methods 16, 1247-1253 (2019). The data set that the bundled model was trained on and is scored on."
    ),
    "doi": "10.1038/s41592-019-0612-7",
}
"""The only reference of CITATION.cff with an address, which bioimage.io requires."""
