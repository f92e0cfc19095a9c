"""Which channel of a file is segmented, and which channels are the colours of one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from nuclei_runtime.errors import ImageShapeError
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from tests.contents import whole

COLOURS = np.random.default_rng(3).integers(0, 255, (3, 9, 8), dtype=np.uint8)
"""Red, green and blue, Y, X."""
PICTURE = np.moveaxis(COLOURS, 0, -1)


def write(path: Path, image: np.ndarray, axes: str = "CYX", names: tuple[str, ...] = (), **options: Any) -> Path:
    metadata: dict[str, Any] = {"axes": axes}
    if names:
        metadata["Channel"] = {"Name": list(names)}
    tifffile.imwrite(path, image, photometric="minisblack", ome=True, metadata=metadata, **options)
    return path


def zarr_of(folder: Path, names: tuple[str, ...] = ()) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(folder, mode="w", zarr_format=2)
    group.create_array("0", data=COLOURS, chunks=(1, 4, 4))
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    if names:
        group.attrs["omero"] = {"channels": [{"label": name} for name in names], "rdefs": {"model": "color"}}
    return folder


def stored(kind: str, folder: Path) -> Path:
    if kind == "OME-Zarr":
        return zarr_of(folder / "a.zarr")
    if kind == "pages":
        tifffile.imwrite(folder / "pages.tif", COLOURS, photometric="minisblack", metadata=None)
        return folder / "pages.tif"
    if kind == "interleaved":
        tifffile.imwrite(folder / "a.tif", PICTURE, photometric="minisblack", planarconfig="contig", metadata=None)
        return folder / "a.tif"
    return write(folder / "a.ome.tif", COLOURS, names=("A", "B", "C"))


@pytest.mark.parametrize(
    ("kind", "selection"),
    [
        ("OME-TIFF", Selection(channel="rgb")),
        ("OME-TIFF", Selection(channel="RGB")),
        ("OME-TIFF", Selection(axes="SYX")),
        ("OME-TIFF", Selection(axes="SYX", channel=0)),
        ("OME-Zarr", Selection(channel="rgb")),
        ("OME-Zarr", Selection(axes="SYX")),
        ("pages", Selection(axes="SYX")),
        ("pages", Selection(axes="CYX", channel="rgb")),
        ("interleaved", Selection(channel="rgb")),
        ("interleaved", Selection(axes="YXS")),
    ],
)
def test_three_channels_are_read_as_the_colours_of_one_picture(kind: str, selection: Selection, tmp_path: Path) -> None:
    with open_planes(stored(kind, tmp_path), selection) as (plane,):
        assert (plane.shape, plane.channel, plane.channels_together) == ((9, 8, 3), "rgb", 1)
        np.testing.assert_array_equal(whole(plane), PICTURE)
        np.testing.assert_array_equal(plane.read(slice(2, 5), slice(1, 8)), PICTURE[2:5, 1:8])


def test_colours_of_a_stack_are_projected_one_by_one(tmp_path: Path) -> None:
    stack = np.random.default_rng(4).integers(0, 255, (4, 3, 9, 8), dtype=np.uint8)
    path = write(tmp_path / "a.ome.tif", stack, axes="ZCYX")
    with open_planes(path, Selection(channel="rgb", z="max")) as (plane,):
        np.testing.assert_array_equal(whole(plane), np.moveaxis(stack.max(axis=0), 0, -1))
    with open_planes(path, Selection(axes="ZSYX", channel="green", z="each")) as planes:
        assert {plane.channel for plane in planes} == {"green"}
        np.testing.assert_array_equal(whole(planes[3]), stack[3, 1])


def test_channels_of_8_bits_that_are_called_by_the_colours_are_the_colours(tmp_path: Path) -> None:
    names = ("Blue", "green", "RED")
    path = write(tmp_path / "a.ome.tif", COLOURS[::-1], names=names)
    with open_planes(path, Selection()) as (plane,):
        assert plane.channel == "rgb"
        np.testing.assert_array_equal(whole(plane), PICTURE)
    with open_planes(path, Selection(channel="blue")) as (plane,):
        assert plane.channel == "Blue"
        np.testing.assert_array_equal(whole(plane), COLOURS[2])
    deep = write(tmp_path / "filters.ome.tif", COLOURS.astype(np.uint16), names=names)
    with pytest.raises(ImageShapeError, match="2 RED; or rgb, if they are the colours of one picture"):
        open_planes(deep, Selection()).__enter__()


def test_so_they_are_in_ome_zarr_as_bioformats2raw_writes_stained_slides(tmp_path: Path) -> None:
    with open_planes(zarr_of(tmp_path / "a.zarr", ("Red", "Green", "Blue")), Selection()) as (plane,):
        assert plane.channel == "rgb"
        np.testing.assert_array_equal(whole(plane), PICTURE)
    unnamed = zarr_of(tmp_path / "b.zarr", ("Channel 0", "Channel 1", "Channel 2"))
    with pytest.raises(ImageShapeError, match="or rgb, if they are the colours of one picture"):
        open_planes(unnamed, Selection()).__enter__()


def test_samples_that_the_xml_counts_as_channels_are_colours(tmp_path: Path) -> None:
    """Many writers of RGB give three channels in the XML, without SamplesPerPixel, and one page."""
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PICTURE, photometric="rgb", metadata={"axes": "YXS"}, ome=True)
    xml = tifffile.TiffFile(path).ome_metadata
    assert xml is not None
    assert 'SamplesPerPixel="3"' in xml
    tifffile.tiffcomment(path, xml.replace('SamplesPerPixel="3"', 'rgb="True"'))
    with open_planes(path, Selection()) as (plane,):
        assert plane.channel == "rgb"
        np.testing.assert_array_equal(whole(plane), PICTURE)


def test_a_channel_that_is_called_rgb_is_that_channel(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", COLOURS, names=("DAPI", "RGB", "GFP"))
    with open_planes(path, Selection(channel="rgb")) as (plane,):
        assert plane.channel == "RGB"
        np.testing.assert_array_equal(whole(plane), COLOURS[1])


@pytest.mark.parametrize("selection", [Selection(channel="rgb"), Selection(axes="SYX")])
def test_other_than_three_channels_are_not_colours(selection: Selection, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", COLOURS[:2])
    with pytest.raises(ImageShapeError, match=r"\(2, 9, 8\).*cannot be the colours of one picture: expected 3"):
        open_planes(path, selection).__enter__()


@pytest.mark.parametrize("channel", [0, "0", "2", 7, "rgb", None])
def test_an_index_means_nothing_in_a_colour_picture_which_has_no_channels(channel: str | int, tmp_path: Path) -> None:
    """The same option is for the stacks in the folder: the photograph keeps its colours."""
    PillowImage.fromarray(PICTURE).save(tmp_path / "a.png")
    with open_planes(tmp_path / "a.png", Selection(channel=channel)) as (plane,):
        assert plane.channel == "rgb"
        np.testing.assert_array_equal(whole(plane), PICTURE)


def test_a_colour_is_chosen_by_its_name(tmp_path: Path) -> None:
    PillowImage.fromarray(PICTURE).save(tmp_path / "a.png")
    with open_planes(tmp_path / "a.png", Selection(channel="Blue")) as (plane,):
        assert plane.channel == "blue"
        np.testing.assert_array_equal(whole(plane), COLOURS[2])
    with pytest.raises(ImageShapeError, match=r"no channel DAPI .*; its channels: 0 red, 1 green, 2 blue"):
        open_planes(tmp_path / "a.png", Selection(channel="DAPI")).__enter__()


def test_the_channel_of_a_plane_has_its_name_or_index(tmp_path: Path) -> None:
    named = write(tmp_path / "a.ome.tif", COLOURS, names=("DAPI", "GFP", "Cy5"))
    bare = write(tmp_path / "b.ome.tif", COLOURS)
    single = write(tmp_path / "c.ome.tif", COLOURS[:1], names=("DAPI",))
    PillowImage.fromarray(COLOURS[0]).save(tmp_path / "d.png")
    found = []
    for path, channel in ((named, 1), (named, "cy5"), (bare, 2), (single, None), (tmp_path / "d.png", 0)):
        with open_planes(path, Selection(channel=channel)) as (plane,):
            found.append(plane.channel)
    assert found == ["GFP", "Cy5", "2", "DAPI", None]


def test_a_name_in_a_file_without_names_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """A grey image in a folder of named channels may show any of them."""
    grey = tmp_path / "a.png"
    PillowImage.fromarray(COLOURS[0]).save(grey)
    unnamed = write(tmp_path / "b.ome.tif", COLOURS)
    for path, name, listed in (
        (grey, "DAPI", "0"),
        (grey, "blue", "0"),
        (grey, "rgb", "0"),
        (unnamed, "DAPI", "0 to 2"),
    ):
        way_out = f"channels: {listed}, without names; choose one by its index, in a run of its own"
        with (
            pytest.raises(ImageShapeError, match=f"the file has no channel {name} .*{way_out}"),
            open_planes(path, Selection(channel=name)),
        ):
            pass


@pytest.mark.parametrize("axes", ["CYX", "ZYX", "TYX", None])
def test_who_cannot_choose_is_not_told_of_options(axes: str | None, tmp_path: Path) -> None:
    """`read_image` is also what nuclei-train, nuclei-explore and nuclei-evaluate read with, which have none of them."""
    if axes is None:
        tifffile.imwrite(tmp_path / "a.tif", COLOURS, photometric="minisblack", metadata=None)
    else:
        write(tmp_path / "a.tif", COLOURS, axes=axes)
    with pytest.raises(ImageShapeError, match=r"the file holds .*; save the .* as a file of its own$") as caught:
        read_image(tmp_path / "a.tif")
    assert "--" not in str(caught.value)
