"""OME-XML that is complete, spread over several files, incomplete, damaged or hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageError, ImageReadError, ImageShapeError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.readers.tiff.ome_xml import read_ome

NAMESPACE = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
STACK = np.random.default_rng(23).integers(0, 255, (3, 12, 10)).astype(np.uint8)


def ome_xml(
    data: str = "<TiffData/>", *, z: int = 3, c: int = 1, t: int = 1, channels: str = "", root: str = ""
) -> str:
    return (
        f'<?xml version="1.0"?><OME {NAMESPACE} {root}><Image ID="Image:0"><Pixels DimensionOrder="XYZCT" '
        f'ID="Pixels:0" SizeC="{c}" SizeT="{t}" SizeX="10" SizeY="12" SizeZ="{z}" Type="uint8">{channels}{data}'
        "</Pixels></Image></OME>"
    )


def write(path: Path, xml: str, stack: np.ndarray = STACK) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for i, page in enumerate(stack):
            writer.write(page, description=xml.encode() if i == 0 else None, metadata=None, contiguous=False)
    return path


def test_planes_lie_on_the_pages_that_the_xml_names(tmp_path: Path) -> None:
    data = "".join(f'<TiffData IFD="{2 - z}" FirstZ="{z}" PlaneCount="1"/>' for z in range(3))
    with open_planes(write(tmp_path / "a.ome.tif", ome_xml(data)), Selection(z="each")) as planes:
        for z, plane in enumerate(planes):
            assert np.array_equal(plane.read(slice(0, 12), slice(0, 10)), STACK[2 - z])


def test_channels_bear_their_names() -> None:
    channels = '<Channel Name="DAPI"/><Channel Name="GFP"/>'
    assert read_ome(ome_xml(z=1, c=2, channels=channels), 2).channels == ("DAPI", "GFP")
    assert read_ome(ome_xml(z=1, c=2, channels='<Channel Name="DAPI"/><Channel/>'), 2).channels == ()


def test_a_file_that_was_renamed_is_read_by_its_own_identifier() -> None:
    data = '<TiffData IFD="0" PlaneCount="3"><UUID FileName="old name.ome.tif">urn:uuid:1</UUID></TiffData>'
    read_ome(ome_xml(data, root='UUID="urn:uuid:1"'), 3)


REFUSED = {
    "other file": (
        ome_xml('<TiffData PlaneCount="3"><UUID FileName="../other.ome.tif">urn:uuid:2</UUID></TiffData>'),
        ImageReadError,
        r"are in \.\./other\.ome\.tif; export the image as a single OME-TIFF",
    ),
    "missing planes": (ome_xml(z=5), ImageReadError, "declares 5 planes, but the file has 3 pages"),
    "unplaced planes": (ome_xml('<TiffData IFD="0"/>'), ImageReadError, "gives the pages of only 1 of 3 planes"),
    "one page for all": (
        ome_xml("".join(f'<TiffData IFD="0" FirstZ="{z}"/>' for z in range(3))),
        ImageReadError,
        "gives the pages of only 1 of 3",
    ),
    "page beyond the end": (ome_xml('<TiffData IFD="1" PlaneCount="3"/>'), ImageReadError, "page 4 of 3"),
    "endless planes": (ome_xml(f'<TiffData PlaneCount="{10**15}"/>'), ImageReadError, "names plane"),
    "endless size": (ome_xml(z=10**15), ImageReadError, "the OME-XML declares"),
    "no size": (ome_xml(z=0), ImageReadError, "declares 0 planes"),
    "companion file": (
        f'<OME {NAMESPACE}><BinaryOnly MetadataFile="x.companion.ome"/></OME>',
        ImageReadError,
        "is in another file",
    ),
    "two images": (
        ome_xml().replace("</OME>", '<Image><Pixels DimensionOrder="XYZCT"/></Image></OME>'),
        ImageShapeError,
        "2 image series",
    ),
    "no image": (f"<OME {NAMESPACE}></OME>", ImageShapeError, "0 image series"),
    "cut": (ome_xml()[:-30] + "</OME>", ImageReadError, "is damaged"),
    "billion laughs": (
        '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        f"<OME {NAMESPACE}>&b;</OME>",
        ImageReadError,
        "declares a document type",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_xml_that_its_file_belies_is_refused(case: str, tmp_path: Path) -> None:
    xml, kind, reason = REFUSED[case]
    with pytest.raises(kind, match=reason):
        read_ome(xml, 3)
    with pytest.raises(kind, match=reason), open_planes(write(tmp_path / "a.tif", xml), Selection(z="each")):
        pass


def test_no_other_file_is_opened(tmp_path: Path) -> None:
    """Neither the neighbouring file that the XML names nor one outside the folder, although both exist."""
    inside = tmp_path / "folder"
    inside.mkdir()
    for neighbour in (inside / "b.ome.tif", tmp_path / "b.ome.tif"):
        write(neighbour, ome_xml(root='UUID="urn:uuid:2"'))
    for name in ("b.ome.tif", "../b.ome.tif"):
        parts = [
            f'<TiffData IFD="{z}" FirstZ="{z}"><UUID FileName="{name}">urn:uuid:2</UUID></TiffData>' for z in (1, 2)
        ]
        path = write(inside / "a.ome.tif", ome_xml('<TiffData IFD="0"/>' + "".join(parts), root='UUID="urn:uuid:1"'))
        with pytest.raises(ImageError, match="export the image as a single"), open_planes(path, Selection(z="each")):
            pass
