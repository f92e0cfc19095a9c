"""How to cite nuclei-edge, as in CITATION.cff, which is not installed."""

from __future__ import annotations

from importlib.metadata import version


def how_to_cite() -> str:
    """Return the reference of this version, and that of the data that the bundled model was trained on."""
    return (
        f"The nuclei-edge developers. nuclei-edge, version {version('nuclei-edge')}. BSD-3-Clause.\n\n"
        "Results of the bundled model also rest on the images that it was trained on:\n"
        "Caicedo JC, Goodman A, Karhohs KW, Cimini BA, Ackerman J, Haghighi M, Heng C, Becker T, Doan M, McQuin C, "
        "Rohban M, Singh S, Carpenter AE. Nucleus segmentation across imaging experiments: the 2018 Data Science "
        "Bowl. Nature Methods 16, 1247-1253 (2019). https://doi.org/10.1038/s41592-019-0612-7"
    )
