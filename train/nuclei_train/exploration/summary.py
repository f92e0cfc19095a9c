"""The summary of a data set, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclei_train.data.modality import modality_group
from nuclei_train.data.oddities import KINDS, UNPAIRED, UNREADABLE

SIZES_SHOWN = 5
IDS_SHOWN = 3
MAX_ID_LENGTH, SHORT_ID_LENGTH = 40, 12
"""Longer identifiers are cut to the second length: Kaggle's 64 digits would fill the line, and their first ones are
enough to find them in the tables. Names that people give often differ at their end, so they are shown whole."""


def format_summary(images: pd.DataFrame, oddities: pd.DataFrame, areas_px: NDArray[np.int64]) -> str:
    """Summarise data sets, sizes, modalities, nuclei and oddities.

    Parameters
    ----------
    images, oddities : DataFrame
    areas_px : ndarray of int
        See `nuclei_train.exploration.explore.Exploration`.
    """
    sections = {
        "Data sets": _datasets(images),
        "Image sizes (height x width in px)": _sizes(images),
        "Channels": _channels(images),
        "Modalities": _modalities(images),
        "Nuclei": _nuclei(images, areas_px),
        "Oddities": _odd(oddities),
    }
    lines: list[str] = []
    for title, section in sections.items():
        found = list(section)
        lines += [title, *(f"  {line}" for line in found)] if found else []
    return "\n".join(lines)


def _datasets(images: pd.DataFrame) -> Iterator[str]:
    for name, group in images.groupby("dataset"):
        truth = group["n_nuclei"].dropna()
        nuclei = _count(truth.sum(), "nucleus", "nuclei") if len(truth) else "no truth"
        yield f"{name}: {_count(len(group), 'image')}, {nuclei}"


def _sizes(images: pd.DataFrame) -> Iterator[str]:
    known = images.dropna(subset=["height", "width"])
    sizes = (known["height"].astype(str) + " x " + known["width"].astype(str)).value_counts()
    for size, count in sizes.iloc[:SIZES_SHOWN].items():
        yield f"{size}: {_count(count, 'image')}"
    if len(rest := sizes.iloc[SIZES_SHOWN:]):
        yield f"{_count(len(rest), 'other size')}: {_count(rest.sum(), 'image')}"


def _channels(images: pd.DataFrame) -> Iterator[str]:
    for (channels, dtype), count in images.groupby(["channels", "dtype"]).size().items():
        yield f"{channels} of {dtype}: {_count(count, 'image')}"


def _modalities(images: pd.DataFrame) -> Iterator[str]:
    if images["modality"].notna().any():
        counts = images["modality"].fillna("not in it").value_counts()
        yield "split table: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
    guesses = images["modality_guess"].value_counts()
    if len(guesses):
        yield "guessed: " + ", ".join(f"{name} {count:,}" for name, count in guesses.items())
    both = images.dropna(subset=["modality", "modality_guess"])
    if len(both):
        agree = (both["modality"].map(modality_group) == both["modality_guess"]).sum()
        yield f"the guess agrees with the split table for {agree:,} of {_count(len(both), 'image')}"


def _nuclei(images: pd.DataFrame, areas_px: NDArray[np.int64]) -> Iterator[str]:
    if len(areas_px):
        counts = images["n_nuclei"].dropna()
        yield f"per image: {counts.min():,} to {counts.max():,}, median {counts.median():,.10g}"
        yield f"area: {areas_px.min():,} to {areas_px.max():,} px, median {np.median(areas_px):,.10g} px"


def _odd(oddities: pd.DataFrame) -> Iterator[str]:
    for kind in KINDS:
        found = oddities[oddities["kind"] == kind]
        for detail in found.loc[(found["image_id"] == "") & (kind != UNPAIRED), "detail"]:
            yield f"{kind}: {detail}"
        what, names = ("file", found["detail"]) if kind == UNPAIRED else ("image", _ids(found))
        if len(names):
            times = f"{len(found):,} in " if len(found) > len(names) else ""
            shown = [name if kind == UNPAIRED else _short(name) for name in names.iloc[:IDS_SHOWN]] + ["..."] * (
                len(names) > IDS_SHOWN
            )
            yield f"{kind}: {times}{_count(len(names), what)}: {', '.join(shown)}"
            if kind == UNREADABLE:  # what to do differs from file to file
                yield f"  the first: {found['detail'].iloc[0]}"
    if not len(oddities):
        yield "none"


def _ids(oddities: pd.DataFrame) -> pd.Series[str]:
    return oddities.loc[oddities["image_id"] != ""].drop_duplicates(["dataset", "image_id"])["image_id"]


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _short(image_id: str) -> str:
    return image_id if len(image_id) <= MAX_ID_LENGTH else f"{image_id[:SHORT_ID_LENGTH]}..."
