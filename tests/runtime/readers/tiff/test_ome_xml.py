"""OME-XML that is complete, spread over several files, incomplete, damaged or hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ImageError, ImageReadError, ImageShapeError
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.readers.tiff.directories import Directory
from nuclei_runtime.readers.tiff.ome_xml import OmeImage, read_ome

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


def read(xml: str, n_pages: int, *, samples: int = 1) -> list[OmeImage]:
    return read_ome(xml, [Directory(frozenset(), (), samples=samples)] * n_pages)


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


@pytest.mark.parametrize("data", ["", "<MetadataOnly/>", "<TiffData/>", '<TiffData PlaneCount="6"/>'])
@pytest.mark.parametrize("channels", ["", '<Channel Name="DAPI"/><Channel Name="GFP"/>', "<Channel/>"])
def test_planes_whose_pages_the_xml_leaves_out_are_in_its_order(tmp_path: Path, data: str, channels: str) -> None:
    stack = np.random.default_rng(24).integers(0, 255, (6, 12, 10)).astype(np.uint8)
    path = write(tmp_path / "a.ome.tif", ome_xml(data, z=3, c=2, channels=channels), stack)  # XYZCT: Z is the fastest
    with open_planes(path, Selection(channel=1, z="each")) as planes:
        for z, plane in enumerate(planes):
            assert np.array_equal(plane.read(slice(0, 12), slice(0, 10)), stack[3 + z])
    with open_planes(path, Selection(axes="CZYX", channel=1, z="each")) as planes:  # what the file says too
        assert len(planes) == 3


def test_smaller_copies_are_not_planes(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for i, page in enumerate(STACK):
            writer.write(page, description=ome_xml("").encode() if i == 0 else None, metadata=None, contiguous=False)
            writer.write(page[::2, ::2], subfiletype=1, metadata=None, contiguous=False)
    with open_planes(path, Selection(z="each")) as planes:
        for z, plane in enumerate(planes):
            assert np.array_equal(plane.read(slice(0, 12), slice(0, 10)), STACK[z])


@pytest.mark.parametrize("channels", ["", "<Channel/>", '<Channel SamplesPerPixel="3"/>', 3 * '<Channel Name="a"/>'])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_page_of_colours_is_three_channels_whatever_the_xml_leaves_out(
    tmp_path: Path, channels: str, planar: str
) -> None:
    colours = np.moveaxis(STACK, 0, 2) if planar == "contig" else STACK
    xml = ome_xml("", z=1, c=3, channels=channels).encode()
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, colours, photometric="rgb", planarconfig=planar, description=xml, metadata=None)
    with open_planes(path, Selection()) as (plane,):
        assert np.array_equal(plane.read(slice(0, 12), slice(0, 10)), np.moveaxis(STACK, 0, 2))


def test_an_axis_that_counts_two_things_has_to_be_named(tmp_path: Path) -> None:
    xml = ome_xml(z=1, t=3).replace(
        "</OME>",
        '<XMLAnnotation><Value><ModuloAlongT Type="lifetime" Start="0" End="2"/></Value></XMLAnnotation></OME>',
    )
    with (
        pytest.raises(ImageShapeError, match=r"axes \?YX and does not say what \? is"),
        open_planes(write(tmp_path / "a.ome.tif", xml), Selection()),
    ):
        pass


def test_channels_bear_their_names() -> None:
    channels = '<Channel Name="DAPI"/><Channel Name="GFP"/>'
    assert read(ome_xml(z=1, c=2, channels=channels), 2)[0].channels == ("DAPI", "GFP")
    assert read(ome_xml(z=1, c=2, channels='<Channel Name="DAPI"/><Channel/>'), 2)[0].channels == ()


def test_a_file_that_was_renamed_is_read_by_its_own_identifier() -> None:
    data = '<TiffData IFD="0" PlaneCount="3"><UUID FileName="old name.ome.tif">urn:uuid:1</UUID></TiffData>'
    read(ome_xml(data, root='UUID="urn:uuid:1"'), 3)


REFUSED = {
    "other file": (
        ome_xml('<TiffData PlaneCount="3"><UUID FileName="../other.ome.tif">urn:uuid:2</UUID></TiffData>'),
        ImageReadError,
        r"are in \.\./other\.ome\.tif; export the image as a single OME-TIFF",
    ),
    "missing planes": (ome_xml(z=5), ImageReadError, "declares 5 planes, but the file has 3 pages"),
    "pages of unknown planes": (ome_xml("", z=2), ImageReadError, "does not say which of the 3 pages .* its 2 planes"),
    "channels in threes": (ome_xml(z=1, c=2), ImageReadError, "declares 2 channels, but a page of the file holds 3"),
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
    stack = np.stack([STACK] * 3, axis=3) if case == "channels in threes" else STACK
    with pytest.raises(kind, match=reason):
        read(xml, 3, samples=stack[0, ..., np.newaxis].shape[2])
    with pytest.raises(kind, match=reason), open_planes(write(tmp_path / "a.tif", xml, stack), Selection(z="each")):
        pass


def test_each_image_has_its_planes() -> None:
    one = (
        '<Image Name="{}"><Pixels DimensionOrder="XYZCT" SizeX="10" SizeY="12" SizeZ="1" SizeC="{}" SizeT="1">{}'
        "</Pixels></Image>"
    )
    whole = f"<OME {NAMESPACE}>" + one.format("slide", 3, "{}") + one.format("", 2, '<TiffData IFD="2"/>') + "</OME>"
    directories = [Directory(frozenset(), (), samples=samples) for samples in (1, 3, 2)]
    slide, label = read_ome(whole.format('<TiffData IFD="1"/>'), directories)
    assert [(image.name, image.pages, image.shape) for image in (slide, label)] == [
        ("slide", (1,), (1, 1, 1)),
        ("", (2,), (1, 1, 1)),
    ]
    with pytest.raises(ImageReadError, match="gives the pages of only 0 of 3 planes"):
        read_ome(whole.format(""), directories)


@pytest.mark.parametrize(("n", "reason"), [(0, "holds no image"), (2, "holds 2 images; choose with --scene")])
def test_a_file_of_no_or_several_images_is_refused(tmp_path: Path, n: int, reason: str) -> None:
    one = ome_xml('<TiffData IFD="1"/>', z=1)
    image = one[one.index("<Image") : one.index("</OME>")]
    path = write(tmp_path / "a.tif", one.replace(image, n * image))
    with pytest.raises(ImageShapeError, match=reason), open_planes(path, Selection()):
        pass


def test_pages_of_another_size_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", ome_xml(), STACK[:, :6])
    with (
        pytest.raises(ImageReadError, match="says 12 x 10 pixels, but its pages are 6 x 10; export"),
        open_planes(path, Selection(z="each")),
    ):
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
