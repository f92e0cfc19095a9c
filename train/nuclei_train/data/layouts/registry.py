"""The layouts, one row each, and the search for all of them.

To add a layout, write a module with a function that finds it and add a row to `LAYOUTS`. The rows are tried in order; a
file that one of them uses is not offered to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from nuclei_runtime.wording import counted
from nuclei_train.data.layouts.beside import find_side_by_side, is_by_product
from nuclei_train.data.layouts.coco import find_listed
from nuclei_train.data.layouts.folders import find_images_alone, find_two_folders
from nuclei_train.data.layouts.kaggle import find_folder_per_image
from nuclei_train.data.layouts.pairing import Found, some
from nuclei_train.data.layouts.places import is_image
from nuclei_train.data.layouts.results import find_results, is_within, results_folders
from nuclei_train.data.stores import Store

Finder = Callable[[Sequence[PurePosixPath], str, Store], Found]
"""Takes the files that no earlier layout uses, the name of the folder or zip, and the store to read them from."""


@dataclass(frozen=True)
class Layout:
    """A layout.

    Attributes
    ----------
    name : str
        As in the documentation.
    find : Finder
    of_results : bool
        Whether it looks into results folders, which no other layout does.
    """

    name: str
    find: Finder
    of_results: bool = False


LAYOUTS = (
    Layout("ID/images/ID.png with ID/masks/*.png", find_folder_per_image),
    Layout("images listed by a COCO JSON", find_listed),
    Layout("NAME.tif with NAME_masks.tif, NAME.geojson or NAME_rois.zip beside it", find_side_by_side),
    Layout("images/NAME.tif with masks/NAME.tif or labels/NAME.tif", find_two_folders),
    Layout("images beside a results folder", find_results, of_results=True),
    Layout("images/ alone", find_images_alone),
)


def find_all(names: Iterable[str], name: str, store: Store) -> Found:
    """Find the images and annotations among the files of a folder or zip.

    Parameters
    ----------
    names : iterable of str
        Of all its files.
    name : str
        Of the folder or zip itself.
    store : Store

    Raises
    ------
    DatasetError
        Names are ambiguous, or a COCO file is damaged.
    """
    files = sorted((file for file in map(PurePosixPath, names) if not _is_clutter(file)), key=str)
    results = results_folders(files)
    found = Found()
    for layout in LAYOUTS:
        offered = [file for file in files if file not in found.used]
        if not layout.of_results:
            offered = [file for file in offered if not is_within(file, results)]
        found.add(layout.find(offered, name, store))
    unused = [
        str(file)
        for file in files
        if is_image(file) and not is_by_product(file) and file not in found.used and not is_within(file, results)
    ]
    if found.pairs and unused:
        found.notes.append(
            f"{name}: {counted(len(unused), 'image file')} not used, because no layout has a place for them: "
            f"{some(unused)}. If these belong to the data, move them: annotated images are not searched for in "
            "subfolders of a folder with images or masks"
        )
    return found


def _is_clutter(file: PurePosixPath) -> bool:
    return "__MACOSX" in file.parts or any(part.startswith(".") for part in file.parts)
