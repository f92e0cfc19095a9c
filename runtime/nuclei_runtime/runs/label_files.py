"""From what a user names as labels to the label files of each image, and to the labels before the correction."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from nuclei_runtime.errors import ImageReadError, InputsError
from nuclei_runtime.readers.formats import format_in_folder, format_of_folder
from nuclei_runtime.readers.outlines.opening import is_outline_file
from nuclei_runtime.readers.plane import Plane
from nuclei_runtime.results.differing import Differing, differing_results
from nuclei_runtime.results.layout import PROVENANCE_FILE, RECORDS_FOLDER, record_path, recorded_tokens, result_path
from nuclei_runtime.results.records import Record, read_record
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.label_names import images_of_labels
from nuclei_runtime.wording import counted
from nuclei_runtime.writers.outputs import LABEL_FORMS, ORIGINAL_LABELS, Output


def is_results_folder(path: Path) -> bool:
    """Whether a folder holds the results of a run."""
    return (path / PROVENANCE_FILE).is_file() and (path / RECORDS_FOLDER).is_dir()


@dataclass(frozen=True, eq=False)
class RunLabels:
    """The labels in a results folder: those of its run, and those that somebody has corrected there.

    Attributes
    ----------
    path : Path
    """

    path: Path
    _differing: dict[str, Differing] = field(default_factory=dict)

    @cached_property
    def _records(self) -> dict[str, Record]:
        """By the names of the images."""
        found = (read_record(record_path(self.path, token)) for token in recorded_tokens(self.path))
        return {record.image: record for record in found if record is not None}

    @cached_property
    def _by_stem(self) -> dict[str, Record]:
        return {record.stem: record for record in self._records.values()}

    def record_of(self, file: ImageFile) -> Record | None:
        """Return the record of an image, which may be in another folder than it was, or have another suffix."""
        found = self._records.get(file.name) or self._by_stem.get(file.stem)
        name = PurePosixPath(file.name).name
        same = [found] if found else [one for one in self._records.values() if PurePosixPath(one.image).name == name]
        return same[0] if len(same) == 1 else None

    def corrected(self, file: ImageFile, plane: Plane) -> Path:
        """Return the file with the labels of a plane: the one that was changed, otherwise that of the run.

        Raises
        ------
        ImageReadError
            There is none, it is damaged, or several were changed.
        """
        record, differing = self._checked(file)
        targets = self._targets(record, plane, LABEL_FORMS)
        changed = [target for target in targets if target in differing.changed]
        if len(changed) > 1:
            raise ImageReadError(
                f"{' and '.join(changed)} were both changed since the run; move those away that are not to be measured"
            )
        if not targets:
            raise ImageReadError("the results hold no labels of it; run nuclei-infer with --save labels")
        target = changed[0] if changed else targets[0]
        if target in differing.damaged:
            raise ImageReadError(f"{target} is missing or damaged; nuclei-infer --resume makes it again")
        return self.path / target

    def before(self, file: ImageFile, plane: Plane) -> Path | str:
        """Return a file with the labels of a plane as the run left them, or why there is none."""
        record = self.record_of(file)
        if record is None:
            return f"{self.path} has no results of this image"
        _, differing = self._checked(file)
        for target in self._targets(record, plane, (ORIGINAL_LABELS, *LABEL_FORMS)):
            if target not in (*differing.changed, *differing.damaged):
                return self.path / target
        return "the label image was corrected in its place, and nothing else in the results folder has it as it was"

    def _checked(self, file: ImageFile) -> tuple[Record, Differing]:
        record = self.record_of(file)
        if record is None:
            raise ImageReadError(f"{self.path} has no results of this image")
        if record.image not in self._differing:
            self._differing[record.image] = differing_results(self.path, record)
        return record, self._differing[record.image]

    @staticmethod
    def _targets(record: Record, plane: Plane, outputs: Sequence[Output]) -> list[str]:
        targets = (result_path(output, record.stem, plane.suffix) for output in outputs)
        return [target for target in targets if target in record.results]


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The label files of the images of a run.

    Attributes
    ----------
    results : RunLabels, optional
        If the labels are those in a results folder.
    files : dict
        Otherwise: for the name of each image, its label files by the suffix of the plane; the suffix of a file for all
        planes is empty.
    before : RunLabels, optional
        The results folder with the labels before the correction.
    images : tuple of ImageFile
        Those that have labels.
    without_labels : tuple of str
        Names of images that have none.
    without_image : tuple of str
        Label files without an image.
    """

    results: RunLabels | None = None
    files: dict[str, dict[str, Path]] = field(default_factory=dict)
    before: RunLabels | None = None
    images: tuple[ImageFile, ...] = ()
    without_labels: tuple[str, ...] = ()
    without_image: tuple[str, ...] = ()

    def of(self, file: ImageFile, plane: Plane, n_planes: int) -> tuple[Path, bool]:
        """Return the label file of a plane, and whether it is one for all planes of the image.

        Raises
        ------
        ImageReadError
            There is none.
        """
        if self.results is not None:
            return self.results.corrected(file, plane), False
        files = self.files[file.name]
        if plane.suffix in files:
            return files[plane.suffix], n_planes == 1
        if "" in files:
            return files[""], True
        raise ImageReadError(f"there are no labels of this plane: none of the label files ends in {plane.suffix}")

    def paths(self, file: ImageFile) -> list[Path]:
        """Return every file that the labels of an image, and those before the correction, may come from."""
        paths = list(self.files.get(file.name, {}).values())
        for results in (self.results, self.before):
            record = None if results is None else results.record_of(file)
            if results is not None and record is not None:
                folders = tuple(f"{output.folder}/" for output in (ORIGINAL_LABELS, *LABEL_FORMS))
                paths += [results.path / target for target in record.results if target.startswith(folders)]
        return sorted({path for path in paths if path.is_file()})


def find_labels(source: Path, images: Sequence[ImageFile], before: Path | None = None) -> LabelSet:
    """Pair labels with images.

    Parameters
    ----------
    source : Path
        A results folder; or a folder of label images and outlines, or one of these files.
    images : sequence of ImageFile
    before : Path, optional
        The results folder of the run whose labels were corrected. Without it, `source`, if it is one.

    Raises
    ------
    InputsError
        Nothing is there, or nothing fits an image.
    """
    if before is not None and not is_results_folder(before):
        raise InputsError(f"{before}: not a results folder; give the one whose labels were corrected")
    run_before = None if before is None else RunLabels(before)
    if not source.exists():
        raise InputsError(f"{source}: no such file or folder; give label images, outlines, or a results folder")
    if is_results_folder(source):
        results = RunLabels(source)
        return _paired(
            LabelSet(results, before=run_before or results),
            images,
            lambda file: results.record_of(file) is not None,
            source,
        )
    found = [source] if source.is_file() else sorted(_label_files(source))
    images, found = _apart(source, images, found)
    if not found:
        raise InputsError(f"{source}: contains neither label images nor outlines (.geojson, .zip or .roi)")
    if source.is_file() and len(images) == 1:
        return LabelSet(files={images[0].name: {"": source}}, before=run_before, images=tuple(images))
    files: dict[str, dict[str, Path]] = {}
    keys = {path.relative_to(source if source.is_dir() else source.parent).as_posix(): path for path in found}
    matches = images_of_labels(keys, images)
    without_image = []
    for key, path in keys.items():
        if key not in matches:
            without_image.append(key)
            continue
        image, suffix = matches[key]
        if suffix in files.setdefault(image.name, {}):
            both = sorted((files[image.name][suffix].name, path.name))
            raise InputsError(f"{' and '.join(both)} are both labels of {image.name}; leave one of them")
        files[image.name][suffix] = path
    labels = LabelSet(None, files, run_before, without_image=tuple(without_image))
    return _paired(labels, images, lambda file: file.name in files, source)


def _apart(source: Path, images: Sequence[ImageFile], found: list[Path]) -> tuple[Sequence[ImageFile], list[Path]]:
    """Tell images and label files apart where one of the two folders holds the other.

    In a folder of labels within that of the images, all are labels. Where the images lie in the folder of the labels,
    beside their outlines, they are no labels.
    """
    folder = source.resolve()
    outside = [image for image in images if not image.path.is_relative_to(folder)]
    if outside:
        return outside, found
    paths = {image.path for image in images}
    return images, found if source.is_file() else [path for path in found if path.resolve() not in paths]


def _paired(
    labels: LabelSet, images: Sequence[ImageFile], has_labels: Callable[[ImageFile], bool], source: Path
) -> LabelSet:
    """Return the labels with the images that have some, and the names of those that have none."""
    paired = tuple(filter(has_labels, images))
    if not paired:
        raise InputsError(
            f"{source}: no labels fit any of {counted(len(images), 'image')}; a label file has the name of its image, "
            f"such as {PurePosixPath(images[0].stem).name}.tif or .geojson"
        )
    names = {file.name for file in paired}
    others = tuple(file.name for file in images if file.name not in names)
    return replace(labels, images=paired, without_labels=others)


def _label_files(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder, followlinks=True):
        shown = sorted(name for name in folders if name[0] != ".")
        yield from (Path(here, name) for name in shown if format_of_folder(Path(here, name)) is not None)
        folders[:] = [name for name in shown if format_of_folder(Path(here, name)) is None]
        for name in names:
            path = Path(here, name)
            if name[0] != "." and (is_outline_file(path) or format_in_folder(path) is not None):
                yield path
