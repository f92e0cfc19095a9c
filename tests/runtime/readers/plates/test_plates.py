"""Plates: wells, fields, channels, times and depths come from the index, and what is missing is named."""

from __future__ import annotations

import json
import pickle
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from zarr.storage import LocalStore

from nuclei_runtime.errors import ImageError, ImageReadError, ImageShapeError, InputsError
from nuclei_runtime.readers.formats import format_of_folder
from nuclei_runtime.readers.opening import open_planes, read_image
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.readers.plates.field import Field, PlateChoice, well_name
from tests.contents import whole


def fields_of(folder: Path) -> list[Field]:
    form = format_of_folder(folder)
    assert form is not None
    found = form.fields(folder)
    assert found is not None
    return list(found)


def labels(fields: list[Field]) -> list[str]:
    return [field.label for field in fields]


@pytest.mark.parametrize(
    ("row", "column", "name"), [(1, 1, "A01"), (8, 12, "H12"), (26, 1, "Z01"), (27, 48, "AA48"), (32, 2, "AF02")]
)
def test_wells_are_called_as_on_the_plate(row: int, column: int, name: str) -> None:
    assert well_name(row, column) == name


@pytest.mark.parametrize(("row", "column"), [(0, 1), (1, 0), (703, 1), (1, 1000), (-1, 4)])
def test_a_well_that_no_plate_has_is_refused(row: int, column: int) -> None:
    with pytest.raises(ImageReadError, match="names a well in row"):
        well_name(row, column)


class TestChoice:
    @pytest.fixture
    def fields(self, plates: Any, tmp_path: Path) -> list[Field]:
        return fields_of(plates.imagexpress(tmp_path / "P", wells=("A01", "A12", "B01")))

    @pytest.mark.parametrize(
        ("wells", "numbers", "found"),
        [
            (None, None, 6),
            (("A01",), None, 2),
            (("a1",), None, 2),
            (("A*",), None, 4),
            (("A?",), ("1",), 1),
            (("*1", "B*"), ("02",), 2),
            (None, ("2", "1"), 6),
        ],
    )
    def test_by_name_and_pattern(
        self, fields: list[Field], wells: tuple[str, ...] | None, numbers: tuple[str, ...] | None, found: int
    ) -> None:
        choice = PlateChoice(wells, numbers)
        choice.check(fields)
        assert len(choice.of(fields)) == found

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            (PlateChoice(("A01", "C*")), r"no well C\*; found A01, A12, B01"),
            (PlateChoice(None, ("3",)), "no field 3; found 1, 2"),
        ],
    )
    def test_what_is_on_no_plate_is_refused(self, fields: list[Field], choice: PlateChoice, message: str) -> None:
        with pytest.raises(InputsError, match=message):
            choice.check(fields)

    def test_without_a_plate_and_without_a_name(self) -> None:
        with pytest.raises(InputsError, match="none was found"):
            PlateChoice(("A01",)).check([])
        with pytest.raises(InputsError, match="expected names"):
            PlateChoice(("A01", ""))


class TestHarmony:
    PLANES = tuple(product([2], [3], [1, 2], [0, 1], [1, 2], [1, 2, 3]))

    @pytest.mark.parametrize(
        ("index", "in_maps"),
        [("Images/Index.idx.xml", False), ("Index.idx.xml", False), ("Images/Index.xml", True), ("Index.xml", True)],
    )
    def test_every_plane_is_where_the_index_says(self, plates: Any, tmp_path: Path, index: str, in_maps: bool) -> None:
        folder = plates.harmony(tmp_path / "P", self.PLANES, index=index, in_maps=in_maps)
        fields = fields_of(folder)
        assert labels(fields) == ["B03_f01", "B03_f02"]
        with open_planes(fields[1], Selection(channel="Alexa 488", z="each")) as planes:
            assert [(plane.time, plane.z) for plane in planes] == list(product([0, 1], [0, 1, 2]))
            for plane in planes:
                assert (plane.well, plane.field, plane.channel) == ("B03", "2", "Alexa 488")
                assert plane.pixel_size_um == pytest.approx((0.65, 0.65))
                assert np.array_equal(whole(plane), plates.pixels(2, 3, 2, plane.time, 2, plane.z + 1))
        with open_planes(fields[0], Selection(channel="dapi", z="max")) as planes:
            expected = np.max([plates.pixels(2, 3, 1, 1, 1, depth) for depth in (1, 2, 3)], axis=0)
            assert np.array_equal(whole(planes[1]), expected)
            assert np.array_equal(planes[1].read(slice(3, 9), slice(5, 30)), expected[3:9, 5:30])

    def test_a_channel_that_lacks_depths_has_only_its_own(self, plates: Any, tmp_path: Path) -> None:
        """A bright-field image is often taken at one depth of many: it is no stack."""
        planes = [(1, 1, 1, 0, 1, 1), (1, 1, 1, 0, 1, 2), (1, 1, 1, 0, 1, 3), (1, 1, 1, 0, 2, 2)]
        (field,) = fields_of(plates.harmony(tmp_path / "P", planes))
        with open_planes(field, Selection(channel="Alexa 488")) as (plane,):
            assert (plane.time, plane.z) == (None, None)
            assert np.array_equal(whole(plane), plates.pixels(1, 1, 1, 0, 2, 2))
        with pytest.raises(ImageShapeError, match="Z stack of 3 planes"), open_planes(field, Selection(channel=0)):
            pass

    def test_another_channel_is_measured_where_it_was_taken(self, plates: Any, tmp_path: Path) -> None:
        planes = [(1, 1, 1, 0, 1, 1), (1, 1, 1, 0, 1, 2), (1, 1, 1, 0, 1, 3), (1, 1, 1, 0, 2, 2)]
        (field,) = fields_of(plates.harmony(tmp_path / "P", planes))
        every = slice(0, 24), slice(0, 32)
        for z in ("each", "max"):
            with open_planes(field, Selection(channel="DAPI", z=z, measure=("Alexa 488",))) as found:
                (measured,) = found[-1].measured
                assert np.array_equal(measured.read(*every), plates.pixels(1, 1, 1, 0, 2, 2))
        with open_planes(field, Selection(channel="Alexa 488", measure=("DAPI",))) as (plane,):
            (measured,) = plane.measured
            assert np.array_equal(measured.read(*every), plates.pixels(1, 1, 1, 0, 1, 2))
        planes += [(1, 1, 1, 0, 2, 3), (1, 1, 1, 1, 1, 1)]  # elsewhere it is not measured
        (field,) = fields_of(plates.harmony(tmp_path / "Q", planes))
        with open_planes(field, Selection(channel="DAPI", z="each", measure=("Alexa 488",))) as found:
            assert [[channel.name for channel in plane.measured] for plane in found] == [
                [], ["Alexa 488"], ["Alexa 488"], []
            ]  # fmt: skip

    def test_what_could_mean_two_things_is_refused_with_the_choices(self, plates: Any, tmp_path: Path) -> None:
        field = fields_of(plates.harmony(tmp_path / "P", self.PLANES))[0]
        message = "choose one with --channel: 0 DAPI, 1 Alexa 488"
        with pytest.raises(ImageShapeError, match=message), open_planes(field, Selection()):
            pass

    def test_a_missing_file_fails_its_plane_alone(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.harmony(tmp_path / "P", self.PLANES)
        (folder / "Images/r02c03f01p02-ch1sk1fk1fl1.tiff").unlink()
        (folder / "Images/r02c03f01p01-ch1sk1fk1fl1.tiff").write_bytes(b"II*\0")  # and one is damaged
        with open_planes(fields_of(folder)[0], Selection(channel="DAPI", z="each")) as planes:
            with pytest.raises(ImageReadError, match=r"Images/r02c03f01p02-ch1sk1fk1fl1.tiff is missing"):
                whole(planes[1])
            with pytest.raises(ImageReadError, match=r"r02c03f01p01-ch1sk1fk1fl1.tiff: .*truncated or damaged"):
                whole(planes[0])
            assert np.array_equal(whole(planes[2]), plates.pixels(2, 3, 1, 0, 1, 3))

    def test_a_field_without_any_file_fails_at_once(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.harmony(tmp_path / "P", self.PLANES)
        for path in folder.glob("Images/*f01*.tiff"):
            path.unlink()
        with (
            pytest.raises(ImageReadError, match=r"none of the 12 files .* exists, such as Images/r02c03f01p01"),
            open_planes(fields_of(folder)[0], Selection(channel=0, z="max")),
        ):
            pass

    def test_a_plane_that_the_microscope_did_not_store(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.harmony(tmp_path / "P", [(1, 1, 1, 0, 1, 1), (1, 1, 1, 1, 1, 1)], names=["DAPI"])
        index = folder / "Images/Index.idx.xml"
        text = index.read_text(encoding="utf-8")
        index.write_text(text.replace("r01c01f01p01-ch1sk2fk1fl1.tiff", ""), encoding="utf-8")
        with open_planes(fields_of(folder)[0], Selection()) as planes:
            assert np.array_equal(whole(planes[0]), plates.pixels(1, 1, 1, 0, 1, 1))
            with pytest.raises(ImageReadError, match="names no file for channel DAPI at time 1"):
                whole(planes[1])

    def test_a_file_of_another_size_or_with_more_pages_is_refused(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.harmony(tmp_path / "P", [(1, 1, 1, time, 1, 1) for time in range(3)], names=["DAPI"])
        tifffile.imwrite(folder / "Images/r01c01f01p01-ch1sk2fk1fl1.tiff", np.zeros((24, 30), np.uint16))
        tifffile.imwrite(folder / "Images/r01c01f01p01-ch1sk3fk1fl1.tiff", np.zeros((2, 24, 32), np.uint16))
        with open_planes(fields_of(folder)[0], Selection()) as planes:
            with pytest.raises(ImageReadError, match="24 x 30 pixels of uint16, but another file of the field is 24 x"):
                whole(planes[1])
            with pytest.raises(ImageReadError, match=r"holds shape .* a file of a plate holds one grey plane"):
                whole(planes[2])

    def test_channels_that_were_binned_differently_are_read_each_in_its_size(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.harmony(tmp_path / "P", [(1, 1, 1, 0, channel, 1) for channel in (1, 2, 3)], names="abc")
        index = folder / "Images/Index.idx.xml"
        first, *others = index.read_text(encoding="utf-8").split("<ChannelName>b<")
        others = [part.replace("6.5E-07", "1.3E-06", 2) for part in others]
        index.write_text("<ChannelName>b<".join([first, *others]), encoding="utf-8")
        binned = plates.pixels(7)[::2, ::2]
        tifffile.imwrite(folder / "Images/r01c01f01p01-ch2sk1fk1fl1.tiff", binned)
        (field,) = fields_of(folder)
        for channel, um, pixels in (("a", 0.65, plates.pixels(1, 1, 1, 0, 1, 1)), ("b", 1.3, binned)):
            with open_planes(field, Selection(channel=channel)) as (plane,):
                assert plane.pixel_size_um == pytest.approx((um, um))
                assert np.array_equal(whole(plane), pixels)
        with open_planes(field, Selection(channel="a", measure=("b", "c"))) as (plane,):
            by_name = {one.name: one for one in plane.measured}
            pixels = by_name["c"].read(slice(0, 24), slice(0, 32))
            assert np.array_equal(pixels, plates.pixels(1, 1, 1, 0, 3, 1))
            assert "it has 12 x 16 pixels, the segmented channel 24 x 32" in str(by_name["b"].absent)
        with open_planes(field, Selection(channel="rgb")) as (plane,), pytest.raises(ImageReadError, match=r"differ$"):
            whole(plane)
        with (
            pytest.raises(ImageShapeError, match="does not state its pixel size"),
            open_planes(field, Selection(mpp=1.3)),
        ):
            pass

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("<Row>1</Row>", "<Row>one</Row>", "says Row one, expected a number"),
            ("<Row>1</Row>", "<Row>0</Row>", "a well in row 0"),
            ("<FieldID>1</FieldID>", "", "says FieldID nothing"),
            ("sk1fk1", "sk1fk1</URL></Image><Image>", "damaged"),
            (
                "<TimepointID>1</TimepointID>",
                "<TimepointID>0</TimepointID>",
                "two files for the same plane, Images/",
            ),
            ("</Images></EvaluationInputData>", "", "damaged"),
            ('encoding="utf-8"', 'encoding="no-such"', "damaged"),
            ("<Images>", "<a>" * 200 + "</a>" * 200 + "<Images>", "nested too deeply"),
            ("<id>x</id>", "<id>x</id>" * 2000, "nested too deeply"),
            ("?>\n", '?>\n<!DOCTYPE a [<!ENTITY b "c">]>\n', "declares a document type"),
        ],
    )
    def test_a_damaged_index_is_refused(self, plates: Any, tmp_path: Path, old: str, new: str, message: str) -> None:
        folder = plates.harmony(tmp_path / "P", [(1, 1, 1, 0, 1, 1), (1, 1, 1, 1, 1, 1)], names=["DAPI"])
        index = folder / "Images/Index.idx.xml"
        text = index.read_text(encoding="utf-8")
        assert old in text
        index.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ImageReadError, match=message):
            fields_of(folder)
        with pytest.raises(ImageReadError, match=message):
            read_image(folder)

    def test_an_index_of_something_else_makes_no_plate(self, tmp_path: Path) -> None:
        (tmp_path / "Index.xml").write_text("<html/>", encoding="utf-8")
        assert format_of_folder(tmp_path) is None

    def test_a_name_never_leads_out_of_the_folder(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.harmony(tmp_path / "P", [(1, 1, 1, 0, 1, 1)], names=["DAPI"])
        plates.plane(tmp_path / "secret.tiff", 1)
        index = folder / "Images/Index.idx.xml"
        name = "r01c01f01p01-ch1sk1fk1fl1.tiff"
        for path in ("../../secret.tiff", "..\\..\\secret.tiff", str(tmp_path / "secret.tiff")):
            index.write_text(
                index.read_text(encoding="utf-8").replace(f"<URL>{name}", f"<URL>{path}"), encoding="utf-8"
            )
            assert fields_of(folder)[0].paths == [folder / "Images/secret.tiff"]
            name = path

    @pytest.mark.vendor_files
    def test_a_plate_of_a_microscope(self, vendor_files: Path) -> None:
        folder = vendor_files / "operetta/operetta_plate"
        fields = fields_of(folder)
        assert labels(fields) == ["C03_f01", "C03_f02"]
        with open_planes(fields[1], Selection()) as (plane,):
            assert (plane.shape, plane.channel) == ((1080, 1080), "Fluorescein (FITC)")
            assert plane.pixel_size_um == pytest.approx((1.19595, 1.19595), rel=1e-5)
            assert np.array_equal(whole(plane), tifffile.imread(folder / "Images/r03c03f02p01-ch1sk1fk1fl1.tiff"))
        # By itself, the file states the pixels of the camera: 6.45 um.
        with open_planes(folder / "Images/r03c03f02p01-ch1sk1fk1fl1.tiff", Selection()) as (plane,):
            assert plane.pixel_size_um is None


class TestCellVoyager:
    PLANES = tuple(product([1, 2], [11], [1, 4], [1, 2], [1, 2], [1, 2]))

    def test_every_plane_is_where_the_index_says(self, plates: Any, tmp_path: Path) -> None:
        fields = fields_of(plates.cellvoyager(tmp_path / "P", self.PLANES, names=("DNA", "")))
        assert labels(fields) == ["A11_f01", "A11_f04", "B11_f01", "B11_f04"]
        with open_planes(fields[3], Selection(channel="DNA", z="each")) as planes:
            assert [(plane.time, plane.z) for plane in planes] == list(product([0, 1], [0, 1]))
            assert planes[0].pixel_size_um == pytest.approx((0.325, 0.325))
            for plane in planes:
                assert np.array_equal(whole(plane), plates.pixels(2, 11, 4, plane.time + 1, 1, plane.z + 1))
        with open_planes(fields[0], Selection(channel="c02", z="max")) as planes:  # it has no name
            assert planes[0].channel == "C02"

    def test_without_settings_channels_are_called_as_in_the_files(self, plates: Any, tmp_path: Path) -> None:
        field = fields_of(plates.cellvoyager(tmp_path / "P", self.PLANES))[0]
        with pytest.raises(ImageShapeError, match="0 C01, 1 C02"), open_planes(field, Selection(z="max")):
            pass

    def test_a_part_of_the_index_that_is_missing_is_named(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.cellvoyager(tmp_path / "P", self.PLANES)
        (folder / "MeasurementDetail.mrf").unlink()
        with pytest.raises(ImageReadError, match=r"MeasurementDetail.mrf, which belongs to the index .* is missing"):
            fields_of(folder)


class TestImageXpress:
    def write_all(self, plates: Any, folder: Path, name: str) -> None:
        """`name` is that of a file without its suffix, for a site, a wave, a time and a step."""
        for well, site, wave, time, step in product((1, 2), (1, 2), (1, 2), (1, 2), (1, 2)):
            path = name.format(well=("A01", "B03")[well - 1], site=site, wave=wave, time=time, step=step)
            plates.plane(folder / f"{path}.TIF", well, site, time, wave, step)

    @pytest.mark.parametrize(
        "name",
        [
            "TimePoint_{time}/ZStep_{step}/P_{well}_s{site}_w{wave}",
            "TimePoint_{time}/ZStep_{step}/Renamed_2024_{well}_s{site}_w{wave}4A6B8C1E-0000-1111-2222-3333ABCD9999",
        ],
    )
    def test_every_plane_is_where_the_index_says(self, plates: Any, tmp_path: Path, name: str) -> None:
        folder = plates.imagexpress(tmp_path / "P", times=2, steps=2)
        self.write_all(plates, folder, name)
        plates.plane(folder / "TimePoint_1/ZStep_1/P_A01_s1_w1_thumb.TIF", 9)
        plates.plane(folder / "TimePoint_1/ZStep_0/P_A01_s1_w1.TIF", 9)  # a projection
        fields = fields_of(folder)
        assert labels(fields) == ["A01_f01", "A01_f02", "B03_f01", "B03_f02"]
        with open_planes(fields[2], Selection(channel="FITC", z="each")) as planes:
            assert [(plane.time, plane.z) for plane in planes] == list(product([0, 1], [0, 1]))
            for plane in planes:
                assert np.array_equal(whole(plane), plates.pixels(2, 1, plane.time + 1, 2, plane.z + 1))

    def test_a_plate_of_one_of_everything_has_short_names(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.imagexpress(tmp_path / "P", wells=["H12"], sites=1, waves=["DAPI"])
        plates.plane(folder / "P_H12.tif", 8)
        (field,) = fields_of(folder)
        with open_planes(field, Selection()) as (plane,):
            assert (plane.well, plane.field, plane.time, plane.z) == ("H12", "1", None, None)
            assert np.array_equal(whole(plane), plates.pixels(8))

    @pytest.mark.parametrize("inside", ["TimePoint_1", "TimePoint_1/ZStep_0"])
    def test_if_only_projections_were_stored_they_are_the_images(
        self, plates: Any, tmp_path: Path, inside: str
    ) -> None:
        folder = plates.imagexpress(tmp_path / "P", wells=["A01"], sites=1, waves=["DAPI"], steps=5)
        plates.plane(folder / inside / "P_A01.TIF", 3)
        with open_planes(fields_of(folder)[0], Selection()) as (plane,):
            assert plane.z is None
            assert np.array_equal(whole(plane), plates.pixels(3))

    def test_copies_of_a_plane_are_segmented_once(self, plates: Any, tmp_path: Path) -> None:
        """MetaXpress copies a channel that was not taken at every depth or time to all of them."""
        folder = plates.imagexpress(tmp_path / "P", wells=["A01"], sites=1, times=3, steps=3)
        for time, step in product((1, 2, 3), (1, 2, 3)):
            plates.plane(folder / f"TimePoint_{time}/ZStep_{step}/P_A01_w1.TIF", time, step)
            plates.plane(folder / f"TimePoint_{time}/ZStep_{step}/P_A01_w2.TIF", 1 if time < 3 else 2)
        (field,) = fields_of(folder)
        with open_planes(field, Selection(channel="FITC")) as planes:  # taken at times 0 and 2, at one depth
            assert [(plane.time, plane.z) for plane in planes] == [(0, None), (2, None)]
            assert np.array_equal(whole(planes[1]), plates.pixels(2))
        with open_planes(field, Selection(channel="DAPI", z="max")) as planes:
            assert [plane.time for plane in planes] == [0, 1, 2]
        (folder / "TimePoint_1/ZStep_3/P_A01_w2.TIF").unlink()  # a copy that is missing is no loss
        with open_planes(fields_of(folder)[0], Selection(channel="FITC")) as planes:
            assert [(plane.time, plane.z) for plane in planes] == [(0, None), (2, None)]
        (folder / "TimePoint_2/ZStep_1/P_A01_w1.TIF").unlink()
        with open_planes(fields_of(folder)[0], Selection(channel="DAPI", z="max")) as planes:
            assert planes[0].shape == plates.SHAPE
            with pytest.raises(ImageReadError, match=r"TimePoint_2/ZStep_1/P_A01_w1.TIF is missing"):
                whole(planes[1])

    @pytest.mark.parametrize(
        ("numbers", "expected"), [((1, 2), ["A01_f01", "A01_f02"]), ((2, 4), ["A01_f02", "A01_f04"])]
    )
    def test_some_sites_of_a_grid_are_numbered_as_the_files_say(
        self, plates: Any, tmp_path: Path, numbers: tuple[int, ...], expected: list[str]
    ) -> None:
        changes = {"SiteSelection1": "FALSE, TRUE, FALSE, TRUE", "XSites": "4"}
        folder = plates.imagexpress(tmp_path / "P", wells=["A01"], waves=["DAPI"], changes=changes)
        for number in numbers:
            plates.plane(folder / f"P_A01_s{number}.TIF", number)
        assert labels(fields_of(folder)) == expected

    def test_a_wavelength_that_was_not_collected_is_no_channel(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.imagexpress(tmp_path / "P", wells=["A01"], sites=1, changes={"WaveCollect1": "0"})
        plates.plane(folder / "P_A01_w2.TIF", 5)
        with open_planes(fields_of(folder)[0], Selection()) as (plane,):
            assert plane.channel == "FITC"
            assert np.array_equal(whole(plane), plates.pixels(5))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"TimePoints": "0"}, "says TimePoints 0, expected a number from 1"),
            ({"TimePoints": "many"}, "says TimePoints many"),
            ({"NWavelengths": "1e9"}, "says NWavelengths 1e9"),
            ({"WellsSelection1": "YES"}, "says WellsSelection1 YES, expected TRUE or FALSE"),
            ({"YWells": "9"}, "says WellsSelection9 nothing"),
            ({"SiteSelection1": "FALSE, FALSE"}, "selects no site"),
            ({"TimePoints": "999999"}, "names more than 2000000 planes"),
            ({"HTSInfoFile2": "x", "Description": '"' + "x" * 200_000 + '"'}, "damaged"),
        ],
    )
    def test_a_damaged_htd_is_refused(self, plates: Any, tmp_path: Path, changes: dict[str, str], message: str) -> None:
        with pytest.raises(ImageReadError, match=message):
            fields_of(plates.imagexpress(tmp_path / "P", changes=changes))

    def test_a_part_of_a_plate_and_two_plates_in_one_folder(self, plates: Any, tmp_path: Path) -> None:
        with pytest.raises(ImageReadError, match="part of a plate; name the folder above it"):
            fields_of(plates.imagexpress(tmp_path / "P/TimePoint_1"))
        folder = plates.imagexpress(tmp_path / "P")
        (folder / "Q.htd").write_bytes((folder / "P.HTD").read_bytes())
        with pytest.raises(ImageReadError, match="2 HTD files"):
            fields_of(folder)
        (folder / "Q.htd").unlink()
        (folder / "P.HTD").write_bytes((folder / "P.HTD").read_bytes()[:-12])
        with pytest.raises(ImageReadError, match="truncated"):
            fields_of(folder)

    def test_two_files_for_one_plane_are_refused(self, plates: Any, tmp_path: Path) -> None:
        folder = plates.imagexpress(tmp_path / "P")
        plates.plane(folder / "P_A01_s1_w1.TIF", 1)
        plates.plane(folder / "Copy_A01_s1_w1.TIF", 2)
        with pytest.raises(ImageReadError, match=r"Copy_A01_s1_w1.TIF and P_A01_s1_w1.TIF are the same plane"):
            fields_of(folder)

    @pytest.mark.vendor_files
    def test_plates_of_a_microscope(self, vendor_files: Path) -> None:
        folder = vendor_files / "imagexpress/9987_Plate_3434"
        fields = fields_of(folder)
        assert labels(fields) == ["B02_f01", "B02_f02", "B03_f01", "B03_f02"]
        with open_planes(fields[3], Selection(channel="DAPI", z="each")) as planes:
            assert len(planes) == 3
            assert planes[0].pixel_size_um == pytest.approx((1.3672, 1.3672))
            expected = tifffile.imread(folder / "TimePoint_1/ZStep_2/9987_B03_s2_w1.TIF")
            assert np.array_equal(whole(planes[1]), expected)
        with open_planes(fields[0], Selection(channel="Texas Red")) as (plane,):  # taken once
            assert np.array_equal(whole(plane), tifffile.imread(folder / "TimePoint_1/ZStep_1/9987_B02_s1_w3.TIF"))
        (field,) = fields_of(vendor_files / "imagexpress/9987_Plate_3420")
        with open_planes(field, Selection()) as (plane,):
            assert (plane.well, plane.channel) == ("B02", "DAPI")
        with open_planes(fields_of(vendor_files / "imagexpress/9987_Plate_3435")[0], Selection(channel=1)) as planes:
            assert [plane.time for plane in planes] == [0, 2, 3, 4, 5]  # a copy at 1; the others are not there


class TestOmeZarr:
    def write(self, folder: Path, wells: dict[str, list[dict[str, Any]]], version: str = "0.4") -> Path:
        is_new = version == "0.5"

        def group(path: Path, attributes: dict[str, Any]) -> Any:
            made = zarr.create_group(LocalStore(path), zarr_format=3 if is_new else 2, overwrite=True)
            made.attrs.update({"ome": {"version": version, **attributes}} if is_new else attributes)
            return made

        group(folder, {"plate": {"wells": [{"path": path} for path in wells]}})
        for path, images in wells.items():
            group(folder / path, {"well": {"images": images}})
            for i, image in enumerate(images):
                multiscale = {
                    "axes": [{"name": "c", "type": "channel"}]
                    + [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"],
                    "datasets": [
                        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.5, 0.5]}]}
                    ],
                }
                channels = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
                made = group(folder / path / image["path"], {"multiscales": [multiscale], "omero": channels})
                made.create_array("0", data=np.full((2, 20, 30), [[[i]], [[i + 10]]], np.uint16), chunks=(1, 16, 16))
        return folder

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_fields_are_images(self, tmp_path: Path, version: str) -> None:
        wells = {"A/1": [{"path": "0"}, {"path": "1"}], "C/12": [{"path": "0"}]}
        fields = fields_of(self.write(tmp_path / "p.zarr", wells, version))
        assert labels(fields) == ["A01_f00", "A01_f01", "C12_f00"]
        with open_planes(fields[1], Selection(channel="GFP")) as (plane,):
            assert (plane.well, plane.field, plane.channel, plane.pixel_size_um) == ("A01", "1", "GFP", (0.5, 0.5))
            assert np.array_equal(whole(plane), np.full((20, 30), 11))

    def test_a_plate_is_no_image_and_neither_is_a_well(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "p.zarr", {"A/1": [{"path": "0"}]})
        with pytest.raises(ImageShapeError, match="a plate of 1 field"):
            read_image(folder)
        with pytest.raises(ImageShapeError, match="a well of a plate; name the plate"):
            read_image(folder / "A/1")

    def test_a_well_that_was_not_copied_is_named(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "p.zarr", {"A/1": [{"path": "0"}]})
        described = json.loads((folder / ".zattrs").read_text(encoding="utf-8"))
        described["plate"]["wells"].append({"path": "B/7"})
        (folder / ".zattrs").write_text(json.dumps(described), encoding="utf-8")
        fields = fields_of(folder)
        assert labels(fields) == ["A01_f00", "B07_f00"]
        with pytest.raises(ImageReadError, match="B/7/0 is missing"), open_planes(fields[1], Selection(channel=0)):
            pass

    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"plate": {}}, "do not list wells"),
            ({"plate": {"wells": [1]}}, "do not list wells"),
            ({"plate": {"wells": [{}]}}, "expected one such as B/2"),
            ({"plate": {"wells": [{"path": "../x"}]}}, "expected one such as B/2"),
            ({"plate": {"wells": [{"path": "A/1"}, {"path": "A/1"}]}}, "name a field twice"),
        ],
    )
    def test_damaged_metadata_are_refused(self, tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
        folder = self.write(tmp_path / "p.zarr", {"A/1": [{"path": "0"}]})
        (folder / ".zattrs").write_text(json.dumps(attributes), encoding="utf-8")
        with pytest.raises(ImageError, match=message):
            fields_of(folder)

    def test_several_acquisitions_are_refused_with_what_to_name(self, tmp_path: Path) -> None:
        images = [{"path": "0", "acquisition": 0}, {"path": "1", "acquisition": 1}]
        with pytest.raises(ImageReadError, match=r"several acquisitions.*p.zarr/A/1/0"):
            fields_of(self.write(tmp_path / "p.zarr", {"A/1": images}))


def test_a_field_can_be_sent_to_another_process(plates: Any, tmp_path: Path) -> None:
    for field in fields_of(plates.harmony(tmp_path / "P", [(1, 1, 1, 0, 1, 1)])):
        assert pickle.loads(pickle.dumps(field)) == field
