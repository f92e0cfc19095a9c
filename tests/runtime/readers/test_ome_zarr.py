"""OME-Zarr folders of both versions, and folders that are not what they seem."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from nuclei_runtime.errors import ImageError, ImageReadError, ImageShapeError
from nuclei_runtime.readers.formats import format_of_folder
from nuclei_runtime.readers.opening import open_planes
from nuclei_runtime.readers.plane import Selection

IMAGE = np.random.default_rng(25).integers(0, 60_000, (2, 2, 3, 60, 50)).astype(np.uint16)
"""T, C, Z, Y, X."""
AXES = [
    {"name": "t", "type": "time"},
    {"name": "c", "type": "channel"},
    *({"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"),
]


def write(folder: Path, image: np.ndarray = IMAGE, *, version: str = "0.4", **changes: Any) -> Path:
    """Write two levels; `changes` replaces entries of the multiscale."""
    is_new = version == "0.5"
    group = zarr.create_group(LocalStore(folder), zarr_format=3 if is_new else 2, overwrite=True)
    for level, pixels in (("0", image), ("1", image[..., ::2, ::2])):
        chunks = (1,) * (image.ndim - 2) + (32, 32)
        group.create_array(
            level,
            data=pixels,
            chunks=chunks,
            chunk_key_encoding={"name": "v2", "separator": "/"} if not is_new else None,
        )
    scales = [[1.0] * (image.ndim - 2) + [0.5 * 2**level, 0.25 * 2**level] for level in (0, 1)]
    multiscale = {
        "axes": AXES[-image.ndim :],
        "datasets": [
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            for level, scale in enumerate(scales)
        ],
        **changes,
    }
    described = {"multiscales": [multiscale], "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}}
    group.attrs.update({"ome": {"version": version, **described}} if is_new else described)
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_full_resolution_is_read_with_all_that_the_metadata_say(version: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "a.ome.zarr", version=version)
    with open_planes(folder, Selection(channel="GFP", z="each")) as planes:
        assert [plane.suffix for plane in planes][:4] == ["_t000_z000", "_t000_z001", "_t000_z002", "_t001_z000"]
        for plane in planes:
            assert (plane.shape, plane.dtype, plane.reads_blocks) == ((60, 50), np.uint16, True)
            assert plane.pixel_size_um == (0.5, 0.25)
            assert np.array_equal(plane.read(slice(7, 40), slice(30, 50)), IMAGE[plane.time, 1, plane.z, 7:40, 30:50])
    with open_planes(folder, Selection(channel=0, z="max")) as planes:
        assert np.array_equal(planes[1].read(slice(0, 60), slice(0, 50)), IMAGE[1, 0].max(0))


def test_a_plain_image_needs_no_choice(tmp_path: Path) -> None:
    with open_planes(write(tmp_path / "a.zarr", IMAGE[0, 0, 0]), Selection()) as (plane,):
        assert np.array_equal(plane.read(slice(0, 60), slice(0, 50)), IMAGE[0, 0, 0])


def test_a_unit_that_is_not_stated_gives_no_size(tmp_path: Path) -> None:
    axes = [{"name": name, "type": "space"} for name in "yx"]
    with open_planes(write(tmp_path / "a.zarr", IMAGE[0, 0, 0], axes=axes), Selection()) as (plane,):
        assert plane.pixel_size_um is None


@pytest.mark.parametrize(
    ("units", "steps", "expected"),
    [
        (("nanometer", "millimeter"), [{"type": "scale", "scale": [250, 0.5]}], (0.25, 500.0)),
        (("micrometer", None), [{"type": "scale", "scale": [0.25, 0.5]}], None),
        (("micrometer", "second"), [{"type": "scale", "scale": [0.25, 0.5]}], None),
        (("micrometer", "micrometer"), [], None),
        (("micrometer", "micrometer"), [{"type": "translation", "translation": [3, 3]}], None),
        (("micrometer", "micrometer"), [{"type": "scale", "path": "elsewhere"}], None),
        (("micrometer", "micrometer"), [{"type": "scale", "scale": [0.25]}], None),
        (("micrometer", "micrometer"), [{"type": "scale", "scale": [0.25, 0.5]}, {"type": "affine"}], None),
        (
            ("micrometer", "micrometer"),
            [{"type": "scale", "scale": [0.25, 0.5]}, {"type": "translation", "translation": [3, 3]}],
            (0.25, 0.5),
        ),
    ],
)
def test_a_size_that_is_only_half_stated_is_none(
    units: tuple[str, str | None], steps: list[dict[str, Any]], expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    axes = [
        {"name": name, "type": "space", **({} if unit is None else {"unit": unit})}
        for name, unit in zip("yx", units, strict=True)
    ]
    changes = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
    with open_planes(write(tmp_path / "a.zarr", IMAGE[0, 0, 0], **changes), Selection()) as (plane,):
        assert plane.pixel_size_um == (None if expected is None else pytest.approx(expected))


def test_the_scale_of_the_whole_image_counts_too(tmp_path: Path) -> None:
    changes = {"coordinateTransformations": [{"type": "scale", "scale": [2.0, 4.0]}]}
    with open_planes(write(tmp_path / "a.zarr", IMAGE[0, 0, 0], **changes), Selection()) as (plane,):
        assert plane.pixel_size_um == (1.0, 1.0)


def test_an_axis_of_another_kind_must_be_named(tmp_path: Path) -> None:
    axes = [{"name": "angle", "type": "other"}, *AXES[-2:]]
    folder = write(tmp_path / "a.zarr", IMAGE[0, 0], axes=axes)
    with pytest.raises(ImageShapeError, match=r"with axes \?YX"), open_planes(folder, Selection()):
        pass
    with open_planes(folder, Selection(axes="TYX")) as planes:
        assert len(planes) == 3


def test_folders_of_images_are_known(tmp_path: Path) -> None:
    named = tmp_path / "empty.ZARR"
    named.mkdir()
    assert format_of_folder(named)
    assert format_of_folder(write(tmp_path / "no suffix"))
    assert format_of_folder(tmp_path) is None


def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['zarr'] = None\n"
        "from nuclei_runtime.readers.opening import open_planes\nfrom nuclei_runtime.readers.plane import Selection\n"
        "try:\n    with open_planes(sys.argv[1], Selection()): pass\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, str(write(tmp_path / "a.zarr", IMAGE[0, 0, 0]))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == 'ImageReadError zarr is not installed; install it with: pip install "nuclei-edge[zarr]"\n'


def level(path: str) -> list[dict[str, Any]]:
    return [{"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, 1, 1]}]}]


@pytest.mark.parametrize(
    "path", ["../outside.zarr/0", "/etc", "https://example.org/a.zarr/0", "s3://a/0", "..\\a", "C:/a", ""]
)
def test_nothing_outside_the_folder_is_opened(path: str, tmp_path: Path) -> None:
    write(tmp_path / "outside.zarr")
    folder = write(tmp_path / "a.zarr", datasets=level(path))
    with pytest.raises(ImageReadError, match="outside the folder"), open_planes(folder, Selection()):
        pass


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "a.zarr", datasets=level("link"))
    try:
        (folder / "link").symlink_to(write(tmp_path / "outside.zarr") / "0")
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(ImageReadError, match="a link out of the folder"), open_planes(folder, Selection()):
        pass


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_codec_that_runs_code_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a.zarr")
    edit(folder / "0" / ".zarray", filters=[{"id": "pickle", "protocol": 5}])
    with (
        pytest.raises(ImageReadError, match="compressed with pickle, which is not supported"),
        open_planes(folder, Selection()),
    ):
        pass
    folder = write(tmp_path / "b.zarr", version="0.5")
    inner = {"chunk_shape": [1], "codecs": [{"name": "numcodecs.pickle"}], "index_codecs": []}
    edit(folder / "0" / "zarr.json", codecs=[{"name": "sharding_indexed", "configuration": inner}])
    with pytest.raises(ImageReadError, match="compressed with pickle"), open_planes(folder, Selection()):
        pass


REFUSED: dict[str, tuple[dict[str, Any], type[ImageError], str]] = {
    "no axes": ({"axes": []}, ImageReadError, "not those of OME-Zarr 0.4 or 0.5"),
    "axes of version 0.3": ({"axes": list("tczyx")}, ImageReadError, "not those of OME-Zarr"),
    "columns before rows": ({"axes": [*AXES[:3], AXES[4], AXES[3]]}, ImageReadError, "not those"),
    "too few axes": ({"axes": AXES[1:]}, ImageReadError, "name 4 axes, the array has 5"),
    "missing array": (
        {"datasets": level("9")},
        ImageReadError,
        "'9' is missing; the folder may have been copied only in part",
    ),
    "no datasets": ({"datasets": []}, ImageReadError, "damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_metadata_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    changes, kind, reason = REFUSED[case]
    with pytest.raises(kind, match=reason), open_planes(write(tmp_path / "a.zarr", **changes), Selection()):
        pass


def several(folder: Path, *names: str, version: str = "0.4", series: list[str] | None = None) -> Path:
    """Write what bioformats2raw makes of a file with several images; image N is all N."""
    is_new = version == "0.5"
    layout = {"bioformats2raw.layout": 3}
    group = zarr.create_group(LocalStore(folder), zarr_format=3 if is_new else 2)
    group.attrs.update({"ome": {"version": version, **layout}} if is_new else layout)
    if series is not None:
        group.create_group("OME").attrs.update({"ome": {"series": series}} if is_new else {"series": series})
    for n, name in enumerate(names):
        write(folder / name, np.full((60, 50), n, np.uint16), version=version)
    return folder


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("series", [None, ["0"]])
def test_a_folder_of_one_image_is_that_image(version: str, series: list[str] | None, tmp_path: Path) -> None:
    folder = several(tmp_path / "slide.zarr", "0", version=version, series=series)
    with open_planes(folder, Selection()) as (plane,):
        assert plane.pixel_size_um == (0.5, 0.25)
        assert not plane.read(slice(0, 60), slice(0, 50)).any()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("series", "order"), [(None, ["0", "1", "2", "10"]), (["10", "2", "1", "0"], ["10", "2", "1", "0"])]
)
def test_several_images_are_scenes(version: str, series: list[str] | None, order: list[str], tmp_path: Path) -> None:
    folder = several(tmp_path / "slide.zarr", "0", "10", "2", "1", version=version, series=series)
    written = {"0": 0, "10": 1, "2": 2, "1": 3}
    listed = ", ".join(f"{i} {name}" for i, name in enumerate(order))
    with pytest.raises(ImageShapeError, match=f"4 images; choose with --scene .*: {listed}$"):
        open_planes(folder, Selection()).__enter__()
    with open_planes(folder, Selection(scene="each")) as planes:
        for plane, name in zip(planes, order, strict=True):
            assert plane.scene_label == name
            assert (plane.read(slice(0, 60), slice(0, 50)) == written[name]).all()
    with open_planes(folder / "2", Selection()) as (plane,):
        assert (plane.read(slice(0, 60), slice(0, 50)) == 2).all()


def test_the_label_of_a_slide_is_known_by_its_name_in_the_ome_xml(tmp_path: Path) -> None:
    folder = several(tmp_path / "slide.zarr", "0", "1", "2", series=["0", "1", "2"])
    for picture in ("1", "2"):
        write(folder / picture, np.zeros((3, 1, 60, 50), np.uint8))
    names = "".join(f'<Image ID="{n}" Name="{n}"/>' for n in ("tissue", "label image", "macro image"))
    xml = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{names}</OME>'
    (folder / "OME" / "METADATA.ome.xml").write_text(xml, encoding="utf-8")
    with open_planes(folder, Selection(scene="each")) as (plane,):
        assert plane.scene_label == "tissue"


def test_levels_are_chosen_and_one_that_was_not_copied_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "a.zarr", IMAGE[0, 0, 0])
    path = folder / ".zattrs"
    attributes = json.loads(path.read_text(encoding="utf-8"))
    finest = attributes["multiscales"][0]["datasets"][0]
    scale = [2 * step for step in finest["coordinateTransformations"][0]["scale"]]
    coarse = {"path": "coarse", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    attributes["multiscales"][0]["datasets"] = [finest, coarse, {**coarse, "path": "missing"}]
    path.write_text(json.dumps(attributes), encoding="utf-8")
    half = IMAGE[0, 0, 0, ::2, ::2]
    zarr.open_group(LocalStore(folder), zarr_format=2).create_array("coarse", data=half)
    with open_planes(folder, Selection(level=1)) as (plane,):
        assert np.array_equal(plane.read(slice(0, half.shape[0]), slice(0, half.shape[1])), half)
    with pytest.raises(ImageShapeError, match="the file has no level 2; its levels: 0"):
        open_planes(folder, Selection(level=2)).__enter__()


@pytest.mark.parametrize("z", ["each", "max"])
def test_a_level_that_halves_z_too_is_none_of_the_same_planes(z: str, tmp_path: Path) -> None:
    stack = np.concatenate([IMAGE[0, 0], IMAGE[1, 0, :1]])
    folder = write(tmp_path / "a.zarr", stack)
    zarr.create_array(LocalStore(folder / "1"), data=stack[::2, ::2, ::2], zarr_format=2, overwrite=True)
    with open_planes(folder, Selection(z=z)) as planes:
        assert [plane.coarser for plane in planes] == [()] * (4 if z == "each" else 1)
        found = [plane.read(slice(0, 60), slice(0, 50)) for plane in planes]
        assert np.array_equal(found, stack if z == "each" else stack.max(0, keepdims=True))
    with open_planes(folder, Selection(z="each", level=1)) as planes:
        assert [plane.shape for plane in planes] == [(30, 25)] * 2


def test_a_list_of_images_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "outside.zarr")
    folder = several(tmp_path / "slide.zarr", "0", series=["../outside.zarr"])
    with pytest.raises(ImageReadError, match="outside the folder"), open_planes(folder, Selection()):
        pass


def test_a_group_of_arrays_without_metadata_is_no_image(tmp_path: Path) -> None:
    folder = several(tmp_path / "slide.zarr")
    zarr.open_group(LocalStore(folder)).create_array("0", data=IMAGE)
    with pytest.raises(ImageReadError, match="lacks multiscales"), open_planes(folder, Selection()):
        pass


def test_an_empty_folder_and_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with (
        pytest.raises(ImageReadError, match="not an OME-Zarr image"),
        open_planes(tmp_path / "empty.zarr", Selection()),
    ):
        pass
    folder = write(tmp_path / "a.zarr", IMAGE[0, 0, 0])
    chunk = max(path for path in (folder / "0").rglob("*") if path.name[0] != "." and path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(ImageReadError, match="damaged"), open_planes(folder, Selection()) as (plane,):
        plane.read(slice(0, 60), slice(0, 50))
    (folder / ".zattrs").write_text("{")
    with pytest.raises(ImageReadError, match="damaged"), open_planes(folder, Selection()):
        pass
