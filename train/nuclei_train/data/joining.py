"""Several data sets -> one to train on."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.data.split import select
from nuclei_train.data.split_table import COLUMNS, SPLIT_FILE, SplitTable
from nuclei_train.errors import DatasetError


def join(sources: Sequence[tuple[Dataset, SplitTable | None]], name: str) -> tuple[Dataset, SplitTable | None]:
    """Make one data set of several; a single one stays as it is.

    Each image's identifier gets the name of its data set in front. The images of a data set without a split table are
    all fitted, and their modality is the name of the data set: whoever joins it to another has validation images there.

    Parameters
    ----------
    sources : sequence of (Dataset, SplitTable or None)
        At least one.
    name : str
        Of the joined data set.

    Raises
    ------
    DatasetError
        Two data sets have the same name, or none of several has a split table.
    """
    if len(sources) == 1:
        return sources[0]
    counts = Counter(dataset.name for dataset, _ in sources)
    if twice := [one for one, count in counts.items() if count > 1]:
        raise DatasetError(f"two data sets are named {twice[0]}; rename the folder or zip of one of them")
    if all(table is None or table.draws_validation for _, table in sources):
        raise DatasetError(
            f"none of the data sets {', '.join(counts)} has a {SPLIT_FILE} that says which images are used for "
            "validation; write one for at least one of them"
        )
    samples: list[Sample] = []
    rows: list[tuple[str, str, str]] = []
    for dataset, table in sources:
        for sample in select(dataset, table):
            joined = replace(sample, image_id=f"{dataset.name}_{sample.image_id}", source_digest=None)
            samples.append(joined)
            split = "train" if table is None else table.split[sample.image_id]
            modality = dataset.name if table is None else table.modality[sample.image_id]
            rows.append((joined.image_id, split, modality))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *sorted(rows)])
    table = SplitTable(
        Path(SPLIT_FILE),
        text.getvalue().encode(),
        {image_id: split for image_id, split, _ in rows},
        {image_id: modality for image_id, _, modality in rows},
    )
    n_left_out = sum(dataset.n_images for dataset, _ in sources) - len(samples)
    path = sources[0][0].path
    return Dataset(name, path, tuple(sorted(samples, key=lambda sample: sample.image_id)), n_left_out), table
