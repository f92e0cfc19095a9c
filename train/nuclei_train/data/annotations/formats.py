"""The formats of annotations, one row each.

To add one, write a module with a reader and add a row to `FORMATS`. A row without a reader is a format that is known
but refused: its files are named, with what to do, where they would otherwise be passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nuclei_runtime.readers.formats import image_suffixes
from nuclei_train.data.annotations.coco import read_coco
from nuclei_train.data.annotations.drawing import AnnotationFile, Drawing
from nuclei_train.data.annotations.mask_images import read_label_image, read_mask
from nuclei_train.data.annotations.outlines import read_outline_file
from nuclei_train.errors import DatasetError


@dataclass(frozen=True)
class AnnotationFormat:
    """A format of annotations.

    Attributes
    ----------
    name : str
        For messages.
    reader : callable, optional
        Takes an `AnnotationFile`, returns a `Drawing`. Raises an ImageError or a DatasetError. None: the format is
        refused.
    suffixes : tuple of str
        In lower case, of files that annotate one image, whose name they share; none for a format whose files are found
        in another way.
    marks : tuple of str
        What a name may have before its suffix, behind that of the image: ``_masks``.
    needs_mark : bool
        Whether a file beside its image needs one of the marks to be told from an image.
    shared : tuple of str
        Suffixes that many other files have too: such a file counts only if there is an image of its name.
    advice : str
        What to do with a file of a format that is refused.
    """

    name: str
    reader: Callable[[AnnotationFile], Drawing] | None
    suffixes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    needs_mark: bool = False
    shared: tuple[str, ...] = ()
    advice: str = ""

    def read(self, file: AnnotationFile) -> Drawing:
        """Read an annotation file.

        Raises
        ------
        ImageError, DatasetError
            The file is damaged or not of this format; or the format is refused. The message names the file.
        """
        if self.reader is None:
            raise DatasetError(f"{file.name}: is a {self.name}, which is not read; {self.advice}")
        return self.reader(file)


MASK_PER_NUCLEUS = AnnotationFormat("mask of one nucleus", read_mask)
LABEL_IMAGE = AnnotationFormat(
    "label image",
    read_label_image,
    suffixes=image_suffixes(),
    marks=("_cp_masks", "_masks", "_mask", "_labels", "_label", "-labelled", "-labels"),
    needs_mark=True,
)
COCO = AnnotationFormat("COCO JSON", read_coco)

FORMATS = (
    MASK_PER_NUCLEUS,
    LABEL_IMAGE,
    AnnotationFormat("GeoJSON", read_outline_file, suffixes=(".geojson",)),
    AnnotationFormat(
        "ImageJ ROI set", read_outline_file, suffixes=(".zip", ".roi"), marks=("_rois", "_roiset"), shared=(".zip",)
    ),
    COCO,
    AnnotationFormat(
        "file of Cellpose's window",
        None,
        suffixes=(".npy",),
        marks=("_seg",),
        needs_mark=True,
        advice="it is a pickle, and unpickling can run any code; in Cellpose's File menu, save the masks as PNG or "
        "TIFF beside the image; or, from a file that you made yourself, save the array 'masks' that numpy.load finds "
        "with allow_pickle as NAME_masks.tif",
    ),
)
