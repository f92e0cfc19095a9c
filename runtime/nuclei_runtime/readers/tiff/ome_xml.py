"""Reads what OME-XML says about the images in its file; refuses hostile, scattered and incomplete OME-XML.

Elements and attributes: OME schema 2016-06, and the OME-TIFF specification for TiffData.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from xml.etree import ElementTree

from nuclei_runtime.errors import ImageReadError
from nuclei_runtime.readers.axes import UNKNOWN
from nuclei_runtime.readers.pixel_size import PixelSize, in_micrometres
from nuclei_runtime.readers.tiff.directories import Directory
from nuclei_runtime.wording import counted


@dataclass(frozen=True)
class OmeImage:
    """An image that the XML describes.

    Attributes
    ----------
    name : str
        Empty if it has none.
    axes : str
        One letter for each dimension of the planes, the slowest first: T, C, Z in some order, or `UNKNOWN`.
    shape : tuple of int
        How many there are.
    pages : tuple of int
        The page of each plane, in the order of `shape`.
    height, width : int
        Of a plane, in pixels.
    channels : tuple of str
        Their names, if all have one.
    pixel_size_um : (float, float), optional
    """

    name: str
    axes: str
    shape: tuple[int, ...]
    pages: tuple[int, ...]
    height: int
    width: int
    channels: tuple[str, ...]
    pixel_size_um: PixelSize | None


def read_ome(xml: str, directories: Sequence[Directory]) -> list[OmeImage]:
    """Read OME-XML and find the page of each plane, which must be in this file.

    Parameters
    ----------
    xml : str
    directories : sequence of Directory
        The pages of the file.

    Raises
    ------
    ImageReadError
        It is damaged; it declares a document type, which OME-XML never does and which can expand without bound; or
        planes are missing or lie in other files.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ImageReadError("the OME-XML is refused: it declares a document type, which can expand without bound")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ImageReadError(f"the OME-XML in the file is damaged: {error}; export the image again") from error
    if list(_children(root, "BinaryOnly")):  # an element without children is false
        raise ImageReadError("the OME-XML is in another file; export the image as a single OME-TIFF")
    images = [(image, pixels) for image in _children(root, "Image") for pixels in _children(image, "Pixels")]
    split = {element.tag[-1] for element in root.iter() if element.tag.rpartition("}")[2].startswith("ModuloAlong")}
    return [
        _image(root, image.get("Name", ""), pixels, split, directories, is_only=len(images) == 1)
        for image, pixels in images
    ]


def _image(
    root: ElementTree.Element,
    name: str,
    pixels: ElementTree.Element,
    split: Container[str],
    directories: Sequence[Directory],
    *,
    is_only: bool,
) -> OmeImage:
    axes = pixels.attrib["DimensionOrder"][:1:-1]  # before XY in reverse, so the slowest first
    sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in axes}
    blocks = list(_children(pixels, "TiffData"))
    first = int(blocks[0].get("IFD", 0)) if blocks else 0
    samples = directories[first].samples if 0 <= first < len(directories) else 1
    if samples < 1 or sizes["C"] % samples:
        raise ImageReadError(f"the OME-XML declares {sizes['C']} channels, but a page of the file holds {samples}")
    sizes["C"] //= samples  # the XML need not say how many are in a page
    if blocks or not is_only:
        pages = _pages(root, blocks, sizes, directories)
    else:
        pages = _pages_in_order(prod(sizes.values()), directories)
    names = tuple(channel.get("Name", "") for channel in _children(pixels, "Channel"))
    return OmeImage(
        name=name,
        axes="".join(UNKNOWN if axis in split else axis for axis in axes),  # it counts something else too, as lifetimes
        shape=tuple(sizes.values()),
        pages=pages,
        height=int(pixels.attrib["SizeY"]),
        width=int(pixels.attrib["SizeX"]),
        channels=names if all(names) else (),
        pixel_size_um=_pixel_size(pixels),
    )


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Find children by name, in the namespace of any version."""
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _pages_in_order(n_planes: int, directories: Sequence[Directory]) -> tuple[int, ...]:
    """Return the pages of planes without TiffData: as in Bio-Formats, all pages in the order of the planes."""
    whole = tuple(i for i, page in enumerate(directories) if not page.is_reduced)
    _check_number(n_planes, len(whole))
    if len(whole) > n_planes:
        raise ImageReadError(
            f"the OME-XML does not say which of the {len(whole)} pages of the file are its {n_planes} planes; "
            "export the image again, with TiffData elements"
        )
    return whole


def _check_number(n_planes: int, n_pages: int) -> None:
    if not 0 < n_planes <= n_pages:
        raise ImageReadError(
            f"the OME-XML declares {counted(n_planes, 'plane')}, but the file has {counted(n_pages, 'page')}; if the "
            "others are in other files, export the image as a single OME-TIFF"
        )


def _pages(
    root: ElementTree.Element,
    blocks: Sequence[ElementTree.Element],
    sizes: Mapping[str, int],
    directories: Sequence[Directory],
) -> tuple[int, ...]:
    """Return the page of each plane. Raise an error unless each has its own in this file."""
    n_planes, n_pages = prod(sizes.values()), len(directories)
    _check_number(n_planes, n_pages)
    pages: dict[int, int] = {}
    for data in blocks:
        for uuid in _children(data, "UUID"):
            if uuid.text != root.get("UUID"):
                where = uuid.get("FileName", "another file")
                raise ImageReadError(f"planes of the image are in {where}; export the image as a single OME-TIFF")
        page = int(data.get("IFD", 0))
        n = int(data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else n_planes)))
        plane = 0
        for axis, size in sizes.items():
            plane = plane * size + int(data.get(f"First{axis}", 0))
        if min(page, n, plane) < 0 or plane + n > n_planes or page + n > n_pages:
            raise ImageReadError(f"the OME-XML names plane {plane + n} of {n_planes} on page {page + n} of {n_pages}")
        pages.update(zip(range(plane, plane + n), range(page, page + n), strict=True))
    if len(pages) < n_planes or len(set(pages.values())) < n_planes:
        raise ImageReadError(f"the OME-XML gives the pages of only {len(set(pages.values()))} of {n_planes} planes")
    return tuple(pages[plane] for plane in range(n_planes))


def _pixel_size(pixels: ElementTree.Element) -> PixelSize | None:
    try:
        sizes = [float(pixels.get(f"PhysicalSize{axis}", "nan")) for axis in "YX"]
    except ValueError:
        return None
    return in_micrometres(sizes, [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "YX"])
