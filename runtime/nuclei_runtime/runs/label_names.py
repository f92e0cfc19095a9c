"""Which image a label file belongs to, by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from nuclei_runtime.readers.plane import series_stem
from nuclei_runtime.results.layout import result_stem
from nuclei_runtime.runs.inputs import ImageFile

Match = tuple[ImageFile, str]
"""An image, and the suffix of the plane that the labels are of: `nuclei_runtime.readers.plane.Plane.suffix`. It is
empty if they are of the whole image."""


def images_of_labels(files: Collection[str], images: Sequence[ImageFile]) -> dict[str, Match]:
    """Return the image of each label file that has one.

    A label file is called like its image, or like the results of its image or plane. It lies in the same subfolder, or
    no other image is called so.

    Parameters
    ----------
    files : collection of str
        Paths of the label files, relative to their folder, with ``/``.
    images : sequence of ImageFile
    """
    return _matches(files, images, _name_of) | _matches(files, images, str)


def _matches(files: Collection[str], images: Sequence[ImageFile], show: Callable[[str], str]) -> dict[str, Match]:
    """Compare names as `show` shows them; those of several images mean none of them.

    ``a_t003.tif`` is called like an image ``a_t003.png``, and like the results of a frame of ``a.tif``. It is the
    image's, unless those have another file: beside a series ``a``, their results are called ``a_t003.png.tif``.
    """
    named = [
        (shown, image)
        for image in images
        for shown in set(map(show, (image.name, _stem(image.name), image.stem, result_stem(image.stem))))
    ]
    uses = Counter(shown for shown, _ in named)
    index = {shown: image for shown, image in named if uses[shown] == 1}
    stems = {show(_stem(file)) for file in files}
    as_results = {image.name for image in images if show(result_stem(image.stem)) in stems}

    def match(file: str) -> Match | None:
        own = show(_stem(file)), show(file)
        for name in own:
            image = index.get(name)
            if image is not None and (image.name not in as_results or own[0] == show(result_stem(image.stem))):
                return image, ""
        for name in own:
            series = series_stem(name)
            if series in index:
                return index[series], name.removeprefix(series)
        return None

    return {file: found for file in files if (found := match(file)) is not None}


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _name_of(path: str) -> str:
    return PurePosixPath(path).name
