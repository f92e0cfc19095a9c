"""Oddities that stop a training, and the packing of data for one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from nuclei_train.data.annotations.formats import MASK_PER_NUCLEUS
from nuclei_train.data.oddities import MUCH_LARGER, STOPPING, UNPAIRED, Oddity, inspect_truth, much_larger
from nuclei_train.data.samples import Dataset, Sample
from nuclei_train.errors import DatasetError

MAX_FOLDERS = 50
"""Reading 29,000 files of single nuclei takes minutes, and each is read again for the training. How the masks of a data
set were made shows in a part of them; nuclei-explore inspects them all."""

_SHOWN = 3


def stopping_oddities(dataset: Dataset, samples: Sequence[Sample], advance: Callable[[], None]) -> list[str]:
    """Return a sentence for each kind of grave oddity among the annotations of these samples.

    Of samples with one file per nucleus, at most `MAX_FOLDERS` are inspected.

    Parameters
    ----------
    dataset : Dataset
        To which the samples belong.
    samples : sequence of Sample
        Those to fit and to validate.
    advance : callable
        Called after each sample.
    """
    details: dict[str, list[str]] = {kind: [] for kind in STOPPING}
    images: Counter[str] = Counter()
    details[UNPAIRED] += dataset.unpaired
    areas: list[int] = []
    folders = [sample for sample in samples if sample.form is MASK_PER_NUCLEUS]
    passed_over = set(folders) - set(folders[:: max(1, -(-len(folders) // MAX_FOLDERS))])
    for sample in samples:
        if sample in passed_over:
            advance()
            continue
        oddities: list[Oddity] = []
        areas += inspect_truth(sample, None, oddities)[0]
        for oddity in oddities:
            if oddity.kind in details:
                details[oddity.kind].append(f"{sample.image_id}: {oddity.detail}")
        images.update({oddity.kind for oddity in oddities})
        advance()
    if (detail := much_larger(areas)) is not None:
        details[MUCH_LARGER].append(detail)
    return [_describe(kind, found, images[kind]) for kind, found in details.items() if found]


def check_oddities(
    dataset: Dataset,
    samples: Sequence[Sample],
    advance: Callable[[], None],
    say: Callable[[str], None],
    *,
    accept: bool,
) -> None:
    """Stop at grave oddities, or mention them if the user has accepted them.

    Parameters
    ----------
    dataset, samples, advance
        See `stopping_oddities`.
    say : callable
        Takes a sentence for the user.
    accept : bool

    Raises
    ------
    DatasetError
        There are some, and they are not accepted.
    """
    stopping = stopping_oddities(dataset, samples, advance)
    if stopping and not accept:
        raise DatasetError(
            f"{dataset.path}: {'; '.join(stopping)}. Such data were probably misread, or lack nuclei: look at them "
            "with nuclei-explore and fix them, or take them as they are with --accept-oddities"
        )
    for sentence in stopping:
        say(f"accepted: {sentence}")


def _describe(kind: str, found: Sequence[str], n_images: int) -> str:
    times = f", {len(found)} in {n_images} images" if n_images > 1 else f", {len(found)}" if len(found) > 1 else ""
    shown = "; ".join([*found[:_SHOWN], "..."] if len(found) > _SHOWN else found)
    return f"{kind}{times} ({shown})"
