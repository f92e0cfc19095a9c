"""What was found in a data set, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nuclei_train.modality import modality_group
from nuclei_train.oddities import KINDS

SIZES_SHOWN = 5
IDS_SHOWN = 3
ID_LENGTH = 12
"""Characters of an identifier: enough to find it in the tables, where Kaggle's 64 would fill the line."""


def format_summary(images: pd.DataFrame, oddities: pd.DataFrame, areas_px: NDArray[np.int64]) -> str:
    """Return data sets, sizes, modalities, nuclei and oddities as lines of text.

    Parameters
    ----------
    images, oddities : DataFrame
    areas_px : ndarray of int
        See `nuclei_train.explore.Exploration`.
    """
    parts = (_datasets(images), _sizes(images), _modalities(images), _nuclei(images, areas_px), _odd(oddities))
    return "\n".join(line for part in parts for line in part)


def _datasets(images: pd.DataFrame) -> Iterator[str]:
    yield "Data sets"
    for name, group in images.groupby("dataset"):
        truth = group["n_nuclei"].dropna()
        nuclei = f"{truth.sum():,} nuclei" if len(truth) else "no truth"
        yield f"  {name}: {_count(len(group), 'image')}, {nuclei}"


def _sizes(images: pd.DataFrame) -> Iterator[str]:
    known = images.dropna(subset=["height", "width"])
    sizes = (known["height"].astype(str) + " x " + known["width"].astype(str)).value_counts()
    yield "Image sizes (height x width in px)"
    for size, count in sizes.iloc[:SIZES_SHOWN].items():
        yield f"  {size}: {_count(count, 'image')}"
    if len(sizes) > SIZES_SHOWN:
        rest = sizes.iloc[SIZES_SHOWN:]
        yield f"  {_count(len(rest), 'other size')}: {_count(rest.sum(), 'image')}"
    for (channels, dtype), count in known.groupby(["channels", "dtype"]).size().items():
        yield f"  {_count(channels, 'channel')}, {dtype}: {_count(count, 'image')}"


def _modalities(images: pd.DataFrame) -> Iterator[str]:
    yield "Modalities"
    if images["modality"].notna().any():
        counts = images["modality"].fillna("not listed").value_counts()
        yield "  images.csv: " + ", ".join(f"{name} {count}" for name, count in counts.items())
    yield "  guessed: " + ", ".join(f"{n} {c}" for n, c in images["modality_guess"].value_counts().items())
    both = images.dropna(subset=["modality", "modality_guess"])
    if len(both):
        agree = int((both["modality"].map(modality_group) == both["modality_guess"]).sum())
        yield f"  the guess agrees with images.csv for {agree} of {len(both)} images"


def _nuclei(images: pd.DataFrame, areas_px: NDArray[np.int64]) -> Iterator[str]:
    if not len(areas_px):
        return
    counts = images["n_nuclei"].dropna()
    yield "Nuclei"
    yield f"  an image: {counts.min()} to {counts.max()}, median {counts.median():g}"
    yield f"  area: {areas_px.min()} to {areas_px.max()} px, median {np.median(areas_px):g} px"


def _odd(oddities: pd.DataFrame) -> Iterator[str]:
    if not len(oddities):
        yield "Oddities: none"
        return
    yield "Oddities"
    for kind in KINDS:
        found = oddities[oddities["kind"] == kind]
        ids = found.drop_duplicates(["dataset", "image_id"])["image_id"]
        if len(ids):
            shown = ", ".join(_short(image_id) for image_id in ids.iloc[:IDS_SHOWN])
            times = (
                f"{len(found)} in {_count(len(ids), 'image')}" if len(found) > len(ids) else _count(len(ids), "image")
            )
            yield f"  {kind}: {times}: {shown}{', ...' if len(ids) > IDS_SHOWN else ''}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _short(image_id: str) -> str:
    return image_id if len(image_id) <= ID_LENGTH else f"{image_id[:ID_LENGTH]}..."
