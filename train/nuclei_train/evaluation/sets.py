"""Which images are scored together, and against which truth."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nuclei_runtime.arrays import Image, Labels
from nuclei_train.data.samples import Dataset, Sample, combined_digest
from nuclei_train.data.split_table import SplitTable
from nuclei_train.data.truth import check_size
from nuclei_train.errors import DatasetError
from nuclei_train.evaluation.kaggle import EncodedMask, decode_labels

UNLISTED = "unlisted"
"""The split of images that the split table does not name, or gives no split."""

FITTED = "train"
USUAL_ORDER = (FITTED, "val", "test")
"""The order in which splits are reported; any others follow in alphabetical order."""


@dataclass(frozen=True)
class EvaluationSet:
    """Images that are scored together: a data set, or one split of it.

    Attributes
    ----------
    name : str
        ``stardist_test``, or ``stage1_train/val``.
    samples : tuple of Sample
    masks : dict of str to list of EncodedMask
        Truth from a CSV, by image identifier, for samples without masks.
    may_be_fitted : bool
        Whether the samples include images of the split ``train`` although the name does not say so, or may include
        some because the split table names none of them.
    """

    name: str
    samples: tuple[Sample, ...]
    masks: Mapping[str, list[EncodedMask]]
    may_be_fitted: bool

    @property
    def split(self) -> str:
        """The name without the data set: ``val`` for ``stage1_train/val``."""
        return self.name.rpartition("/")[2]

    @property
    def has_truth(self) -> bool:
        """Whether there is truth for at least one sample."""
        return any(sample.has_truth or sample.image_id in self.masks for sample in self.samples)

    def read_truth(self, sample: Sample, image: Image) -> Labels:
        """Return a sample's truth, (H, W), of the same size as its image.

        Raises
        ------
        ImageError, DatasetError
            There is none, it cannot be read, or it differs from the image in size.
        """
        height, width = image.shape[:2]
        if not sample.has_truth and sample.image_id in self.masks:
            return decode_labels(sample.image_id, self.masks[sample.image_id], height, width)
        truth = sample.read_labels()
        check_size(sample, image, truth)
        return truth

    def digest(self, sample: Sample) -> str:
        """Return the SHA-256 of a sample's image and truth, in hexadecimal."""
        if sample.has_truth or sample.image_id not in self.masks:
            return sample.digest()
        encoded = "\n".join(mask.text for mask in self.masks[sample.image_id])
        return combined_digest([sample.digest(), hashlib.sha256(encoded.encode()).hexdigest()])


def find_sets(
    datasets: Sequence[Dataset],
    table: SplitTable | None,
    masks: Mapping[str, list[EncodedMask]],
    names: Sequence[str],
) -> list[EvaluationSet]:
    """Divide data sets into the sets to score.

    A data set whose images are in more than one split of the split table is divided by it; any other is one set.

    Parameters
    ----------
    datasets : sequence of Dataset
    table : SplitTable, optional
    masks : dict of str to list of EncodedMask
        Truth for samples without masks; an image with an empty list is not scored.
    names : sequence of str
        Sets or splits to keep; all if empty.

    Raises
    ------
    DatasetError
        Two data sets have the same name, a name matches no set, or no sample needs `masks`.
    """
    for name, count in Counter(dataset.name for dataset in datasets).items():
        if count > 1:
            paths = ", ".join(str(dataset.path) for dataset in datasets if dataset.name == name)
            raise DatasetError(f"{count} data sets have the name {name}: {paths}; name the one to score")
    samples = [sample for dataset in datasets for sample in dataset.samples]
    if masks and not any(not sample.has_truth and sample.image_id in masks for sample in samples):
        raise DatasetError("the truth CSV lists no image that lacks truth; check that it belongs to these images")
    left_out = {sample for sample in samples if not sample.has_truth and masks.get(sample.image_id) == []}
    datasets = [
        replace(dataset, samples=tuple(sample for sample in dataset.samples if sample not in left_out))
        for dataset in datasets
    ]
    sets = [
        found for dataset in datasets for found in _divide(dataset, table.split if table is not None else {}, masks)
    ]
    known = {name for found in sets for name in (found.name, found.split)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DatasetError(
            f"there is no set or split {', '.join(unknown)}; expected one of {', '.join(found.name for found in sets)}"
        )
    return [found for found in sets if not names or found.name in names or found.split in names]


def _divide(dataset: Dataset, split: Mapping[str, str], masks: Mapping[str, list[EncodedMask]]) -> list[EvaluationSet]:
    members: dict[str, list[Sample]] = {}
    for sample in dataset.samples:
        members.setdefault(split.get(sample.image_id) or UNLISTED, []).append(sample)
    listed = members.keys() - {UNLISTED}
    if len(listed) < 2:
        return [EvaluationSet(dataset.name, dataset.samples, masks, not listed or FITTED in listed)]
    ordered = [*(name for name in USUAL_ORDER if name in members), *sorted(members.keys() - set(USUAL_ORDER))]
    return [EvaluationSet(f"{dataset.name}/{name}", tuple(members[name]), masks, False) for name in ordered]
