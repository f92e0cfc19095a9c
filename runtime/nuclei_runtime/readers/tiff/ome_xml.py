"""Reads what OME-XML says about the one image in its file; refuses hostile, scattered and incomplete OME-XML.

Elements and attributes: OME schema 2016-06, and the OME-TIFF specification for TiffData.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from nuclei_runtime.errors import ImageReadError, ImageShapeError
from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.wording import counted


@dataclass(frozen=True)
class OmeImage:
    """The image that the XML describes.

    Attributes
    ----------
    channels : tuple of str
        Their names, if all have one.
    pixel_size_um : (float, float), optional
    """

    channels: tuple[str, ...]
    pixel_size_um: PixelSize | None


def read_ome(xml: str, n_pages: int) -> OmeImage:
    """Read OME-XML and check that each plane that it names is a page of this file.

    Parameters
    ----------
    xml : str
    n_pages : int
        Number of pages in the file.

    Raises
    ------
    ImageReadError
        It is damaged; it declares a document type, which OME-XML never does and which can expand without bound; or
        planes are missing or lie in other files.
    ImageShapeError
        It describes several images.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ImageReadError("the OME-XML is refused: it declares a document type, which can expand without bound")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ImageReadError(f"the OME-XML in the file is damaged: {error}; export the image again") from error
    if list(_children(root, "BinaryOnly")):  # an element without children is false
        raise ImageReadError("the OME-XML of the file is in another file; export the image as a single OME-TIFF")
    images = [pixels for image in _children(root, "Image") for pixels in _children(image, "Pixels")]
    if len(images) != 1:
        raise ImageShapeError(
            f"the file holds {len(images)} image series by its OME-XML; save the one to segment as a file of its own"
        )
    (pixels,) = images
    channels = list(_children(pixels, "Channel"))
    _check_planes(root, pixels, int(channels[0].get("SamplesPerPixel", 1)) if channels else 1, n_pages)
    names = tuple(channel.get("Name", "") for channel in channels)
    return OmeImage(names if all(names) else (), _pixel_size(pixels))


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Find children by name, in the namespace of any version."""
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _check_planes(root: ElementTree.Element, pixels: ElementTree.Element, samples: int, n_pages: int) -> None:
    """Raise an error unless each plane has its own page in this file."""
    order = pixels.attrib["DimensionOrder"][2:]  # after XY, the fastest first
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in order}
    sizes["C"] //= max(samples, 1)
    n_planes = sizes["Z"] * sizes["C"] * sizes["T"]
    if not 0 < n_planes <= n_pages:
        raise ImageReadError(
            f"the OME-XML declares {counted(n_planes, 'plane')}, but the file has {counted(n_pages, 'page')}; if the "
            "others are in other files, export the image as a single OME-TIFF"
        )
    pages: dict[int, int] = {}
    for data in _children(pixels, "TiffData"):
        for uuid in _children(data, "UUID"):
            if uuid.text != root.get("UUID"):
                where = uuid.get("FileName", "another file")
                raise ImageReadError(f"planes of the image are in {where}; export the image as a single OME-TIFF")
        page = int(data.get("IFD", 0))
        n = int(data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else n_planes)))
        plane, step = 0, 1
        for axis in order:
            plane += step * int(data.get(f"First{axis}", 0))
            step *= sizes[axis]
        if min(page, n, plane) < 0 or plane + n > n_planes or page + n > n_pages:
            raise ImageReadError(f"the OME-XML names plane {plane + n} of {n_planes} on page {page + n} of {n_pages}")
        pages.update(zip(range(plane, plane + n), range(page, page + n), strict=True))
    if len(pages) < n_planes or len(set(pages.values())) < n_planes:
        raise ImageReadError(f"the OME-XML gives the pages of only {len(set(pages.values()))} of {n_planes} planes")


def _pixel_size(pixels: ElementTree.Element) -> PixelSize | None:
    sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "YX"]
    units = [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "YX"]
    try:
        down, across = (in_micrometres(float(size or "nan"), 1, unit) for size, unit in zip(sizes, units, strict=True))
    except ValueError:
        return None
    return (down[0], across[0]) if down and across else None
