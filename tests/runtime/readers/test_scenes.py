"""Files of several images and of several resolutions: what is chosen, and what is refused with the choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nuclei_runtime.errors import ArgumentError, ImageReadError, ImageShapeError
from nuclei_runtime.readers.axes import Stack
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.readers.scenes import Scene, choose_planes
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions
from tests.contents import whole

IMAGES = [np.random.default_rng(i).integers(0, 255, (20 + i, 30)).astype(np.uint8) for i in range(3)]


def stack(image: np.ndarray, um: float | None = None, coarser: Sequence[Stack] = ()) -> Stack:
    size = None if um is None else (um, um)
    return Stack("YX", image.shape, image.dtype, (), size, lambda _, y, x: image[y, x], True, tuple(coarser))


def scenes(*names: str) -> list[Scene]:
    return [Scene(name, lambda image=image: stack(image)) for name, image in zip(names, IMAGES, strict=False)]  # type: ignore[misc]


def test_each_scene_has_a_suffix_and_a_name() -> None:
    planes = choose_planes(scenes("A1", "", "C3"), Selection(scene="each"))
    assert [(plane.suffix, plane.scene_label) for plane in planes] == [("_s00", "A1"), ("_s01", "1"), ("_s02", "C3")]
    for plane, image in zip(planes, IMAGES, strict=True):
        assert np.array_equal(whole(plane), image)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("pos", "A1", "pos"), ["pos 0", "A1", "pos 2"]),
        (("pos 1", "pos", "pos"), ["pos 1 0", "pos 1 1", "pos 2"]),
        (("1", "", "1"), ["1 0", "1", "1 2"]),
    ],
)
def test_the_tables_call_no_two_scenes_alike(names: tuple[str, ...], labels: list[str]) -> None:
    """Or else the nuclei of one could not be told from those of another."""
    found = choose_planes(scenes(*names), Selection(scene="each"))
    assert [plane.scene_label for plane in found] == labels
    (one,) = choose_planes(scenes(*names), Selection(scene=2))
    assert one.scene_label == labels[2]


@pytest.mark.parametrize(
    ("finest", "level", "expected"),
    [
        ((100, 200), (100, 200), (1.0, 1.0)),
        ((2967, 2220), (741, 555), (4.0, 4.0)),  # of an SVS, without what remains
        ((2967, 2220), (742, 1110), (4.0, 2.0)),
        ((100, 100), (40, 67), (2.5, 100 / 67)),
        ((1, 5), (1, 1), (1.0, 5.0)),
    ],
)
def test_a_level_says_how_large_its_pixels_are(
    finest: tuple[int, int], level: tuple[int, int], expected: tuple[float, float]
) -> None:
    coarser = stack(np.zeros(level, np.uint8))
    (plane,) = choose_planes(stack(np.zeros(finest, np.uint8), coarser=[coarser]), Selection(level=1))
    assert plane.downsample == expected
    (plane,) = choose_planes(stack(np.zeros(finest, np.uint8), coarser=[coarser]), Selection())
    assert plane.downsample == (1.0, 1.0)


@pytest.mark.parametrize(
    ("axes", "asked", "expected"),
    [
        ("TYX", {}, False),
        ("TYXS", {}, False),
        ("ZYX", {"z": "each"}, False),
        ("TCYX", {"channel": 0}, True),
        ("TZYX", {"z": "each"}, True),
        ("TZYX", {"z": "max"}, True),
        ("CYX", {"channel": 0}, False),
    ],
)
def test_a_hyperstack_has_several_planes_along_more_than_one_axis(
    axes: str, asked: dict[str, str | int], expected: bool
) -> None:
    """As in ImageJ (ij.ImagePlus.isHyperStack): colours are no channels."""
    shape = tuple({"Y": 20, "X": 30, "S": 3}.get(axis, 2) for axis in axes)
    image = Stack(axes, shape, np.uint8, (), None, lambda *_: np.zeros((20, 30), np.uint8), True)
    assert {plane.in_hyperstack for plane in choose_planes(image, Selection(**asked))} == {expected}  # type: ignore[arg-type]


@pytest.mark.parametrize(("asked", "index"), [("A1", 0), ("b2", 1), ("1", 1), (2, 2), ("7", 2)])
def test_a_scene_is_chosen_by_name_or_index(asked: str | int, index: int) -> None:
    """A name takes precedence over an index, and the suffix is the same as if each scene had been asked for."""
    (plane,) = choose_planes(scenes("A1", "B2", "7"), Selection(scene=asked))
    assert (plane.scene, plane.suffix) == (index, f"_s0{index}")
    assert np.array_equal(whole(plane), IMAGES[index])


@pytest.mark.parametrize(
    ("names", "asked", "reason"),
    [
        (("A1", "B2"), None, r"holds 2 images; choose with --scene each \(all of them\) or .*: 0 A1, 1 B2"),
        (("A1", "B2"), "C3", "no scene C3; its scenes: 0 A1, 1 B2"),
        (("A1", "B2"), 2, "no scene 2"),
        (("A1", "A1"), "a1", "2 scenes are called a1; choose by index: 0 A1, 1 A1"),
        (("A1",), "B2", "no scene B2"),
        ((), None, "holds no image"),
    ],
)
def test_what_is_not_clear_is_refused(names: tuple[str, ...], asked: str | int | None, reason: str) -> None:
    with pytest.raises(ImageShapeError, match=reason):
        choose_planes(scenes(*names), Selection(scene=asked))


def test_an_image_alone_needs_no_scene() -> None:
    for asked in (None, "each", 0, "0"):
        (plane,) = choose_planes(stack(IMAGES[0]), Selection(scene=asked))
        assert (plane.suffix, plane.scene_label) == ("", None)
        (plane,) = choose_planes(scenes("A1"), Selection(scene=asked))
        assert (plane.suffix, plane.scene_label) == ("", "A1")
    with pytest.raises(ImageShapeError, match="no scene 1: it holds a single image"):
        choose_planes(stack(IMAGES[0]), Selection(scene="1"))


def write_named(path: Path, *images: tuple[str, np.ndarray]) -> Path:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, image in images:
            photometric = "rgb" if image.ndim == 3 else "minisblack"
            writer.write(image, photometric=photometric, metadata={"axes": "YXS"[: image.ndim], "Name": name})
    return path


def test_label_and_overview_of_a_slide_are_left_out_and_named(tmp_path: Path) -> None:
    colours = np.stack([IMAGES[1]] * 3, axis=-1)
    path = write_named(tmp_path / "a.tif", ("tissue", IMAGES[0]), ("Label image", colours), ("macro", colours))
    for asked in (None, "each", 0):
        with open_planes(path, Selection(scene=asked)) as (plane,):
            assert (plane.scene_label, plane.suffix) == ("tissue", "")
            assert plane.notes[0].startswith("left out, because they seem to show a whole slide: Label image, macro (")


def test_a_field_called_like_the_overview_of_a_slide_is_an_image(tmp_path: Path) -> None:
    path = write_named(tmp_path / "two.tif", ("Overview", IMAGES[0]), ("Field 2", IMAGES[1]))
    with pytest.raises(ImageShapeError, match=r"holds 2 images; choose with --scene .*: 0 Overview, 1 Field 2"):
        open_planes(path, Selection()).__enter__()
    with open_planes(path, Selection(scene="each")) as planes:
        assert [plane.scene_label for plane in planes] == ["Overview", "Field 2"]
    colours = np.stack([IMAGES[1]] * 3, axis=-1)
    for only in (IMAGES[0], colours):
        assert np.array_equal(read_image(write_named(tmp_path / "one.tif", ("Overview", only))), only)
    of_lif = [Scene(name, lambda: stack(IMAGES[0])) for name in ("Overview", "Macro")]
    assert [plane.scene_label for plane in choose_planes(of_lif, Selection(scene="each"))] == ["Overview", "Macro"]


def test_a_scene_that_cannot_be_read_does_not_stop_the_others() -> None:
    def fail() -> Stack:
        raise ImageReadError("a line scan")

    found = [*scenes("A1"), Scene("line", fail)]
    good, bad = choose_planes(found, Selection(scene="each"))
    assert np.array_equal(whole(good), IMAGES[0])
    with pytest.raises(ImageReadError, match="a line scan"):
        whole(bad)
    with pytest.raises(ImageReadError, match="a line scan"):
        choose_planes(found, Selection(scene="line"))


PYRAMID = stack(np.zeros((80, 60)), 0.25, [stack(np.zeros((40, 30)), 0.5), stack(np.zeros((10, 8)), 2.0)])


@pytest.mark.parametrize(
    ("selection", "height"),
    [
        (Selection(), 80),
        (Selection(level=0), 80),
        (Selection(level=2), 10),
        (Selection(mpp=0.25), 80),
        (Selection(mpp=0.55), 40),
        (Selection(mpp=1.8), 10),
    ],
)
def test_a_level_is_chosen_by_number_or_by_the_size_of_its_pixels(selection: Selection, height: int) -> None:
    (plane,) = choose_planes(PYRAMID, selection)
    assert plane.shape[0] == height


@pytest.mark.parametrize(
    ("contents", "selection", "reason"),
    [
        (
            PYRAMID,
            Selection(level=3),
            r"no level 3; its levels: 0 \(80 x 60 at 0.25 um\), 1 \(40 x 30 at 0.5",
        ),
        (PYRAMID, Selection(mpp=1), r"the file has no level with pixels of about 1 um; its levels: 0"),
        (stack(IMAGES[0]), Selection(mpp=1), "does not state its pixel size"),
    ],
)
def test_a_level_that_is_not_there_is_refused(contents: Stack, selection: Selection, reason: str) -> None:
    with pytest.raises(ImageShapeError, match=reason):
        choose_planes(contents, selection)


@pytest.mark.parametrize(
    "options",
    [{"scene": ""}, {"scene": -1}, {"level": -1}, {"mpp": 0.0}, {"mpp": float("nan")}, {"mpp": 1.0, "level": 0}],
)
def test_a_choice_that_is_valid_for_no_file_is_refused(options: dict[str, str | int | float]) -> None:
    with pytest.raises(ArgumentError):
        Selection(**options)  # type: ignore[arg-type]


def write_pages(path: Path) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for image in IMAGES[:2]:
            writer.write(image, photometric="minisblack", metadata=None)
    return path


def write_series(path: Path) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for image, axes, name in ((IMAGES[0], "YX", "first"), (np.stack([IMAGES[1]] * 2), "TYX", "second")):
            writer.write(image, photometric="minisblack", metadata={"axes": axes, "Name": name})
    return path


def write_ome(path: Path) -> Path:
    return write_series(path.with_suffix(".ome.tif"))


@pytest.mark.parametrize(
    ("write", "names"), [(write_pages, ("0", "1")), (write_series, None), (write_ome, ("first", "second"))]
)
def test_images_of_a_tiff_are_scenes(
    tmp_path: Path, write: Callable[[Path], Path], names: tuple[str, str] | None
) -> None:
    path = write(tmp_path / "a.tif")
    with pytest.raises(ImageShapeError, match="holds 2 images; choose with --scene"):
        open_planes(path, Selection()).__enter__()
    with pytest.raises(ImageShapeError, match="holds 2 images; save the one to use as a file of its own"):
        read_image(path)
    with open_planes(path, Selection(scene="each")) as planes:
        assert np.array_equal(whole(planes[0]), IMAGES[0])
        assert all(np.array_equal(whole(plane), IMAGES[1]) for plane in planes[1:])
        assert np.array_equal(whole(planes[0]), IMAGES[0]), "after a page of another layout"
        if names:
            assert (planes[0].scene_label, planes[-1].scene_label) == names
        assert planes[-1].suffix.startswith("_s01")


def test_a_thumbnail_of_an_image_elsewhere_is_refused(tmp_path: Path) -> None:
    """Raw files of cameras are like this."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(IMAGES[0], photometric="minisblack", metadata=None, subfiletype=1, subifds=1)
        writer.write(IMAGES[1], photometric="minisblack", metadata=None)
    with pytest.raises(ImageReadError, match="reduced copies of an image that the file lacks"):
        read_image(tmp_path / "a.tif")


def test_a_run_names_results_and_rows_by_their_scene(tmp_path: Path, tiny_model: Path) -> None:
    path = write_ome(tmp_path / "a.tif")
    with FolderRun(
        RunConfig((str(path),), tmp_path / "out", SegmenterOptions(tiny_model), selection=Selection(scene="each"))
    ) as run:
        (outcome,) = run.outcomes()
    assert [(plane.scene, plane.time) for plane in outcome.planes] == [("first", None), ("second", 0), ("second", 1)]
    assert sorted(label.name for label in (tmp_path / "out" / "labels").iterdir()) == [
        "a.ome_s00.tif",
        "a.ome_s01_t000.tif",
        "a.ome_s01_t001.tif",
    ]
    header = (tmp_path / "out" / "images.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith("image,status,scene,well,field,time,z")
