"""The report in a real browser: no error, no request, and what clicks and keys do."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import zlib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.report.build import write_report
from nuclei_runtime.report.columns import MAX_EXACT_VALUES, PackedColumn, dropped_bits
from nuclei_runtime.results.read_tables import read_rows
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import FolderRun
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.steps.flags import Flag

TAG = "<img src=x onerror=document.title='broken'>"
"""As in the names and conditions of `results`."""

PIXELS = "canvas => canvas.toDataURL()"


@pytest.fixture
def page(browser: Any, results: Path) -> Iterator[Any]:
    """The report, opened from its file. Errors and requests fail the test that uses it."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    opened = context.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: problems.append(dialog.message))
    opened.on("request", lambda request: problems.append(request.url))
    address = (results / "report.html").as_uri()
    opened.goto(address)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    context.close()
    assert [problem for problem in problems if problem != address and not problem.startswith("data:image/webp")] == []


def kept(page: Any) -> str:
    return str(page.evaluate("document.querySelector('#kept').value"))


def wait_for_nuclei(page: Any, n: int, n_all: int) -> None:
    page.wait_for_function(f"() => document.querySelector('#kept').value.includes(', {n} of {n_all} nuclei')")


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def open_image(page: Any, name: str) -> None:
    page.locator("#gallery .card", has_text=name).first.click()
    page.wait_for_selector("#nuclei tbody tr:not([aria-hidden])")


def test_the_list_of_an_image_that_has_just_been_opened_is_full(browser: Any, tmp_path: Path, tiny_model: Path) -> None:
    field = fluorescence_field(5, height=320, width=320, n_nuclei=70)[0]
    tifffile.imwrite(tmp_path / "many.tif", field)
    with FolderRun(RunConfig((str(tmp_path / "many.tif"),), tmp_path / "out", SegmenterOptions(tiny_model))) as run:
        list(run.outcomes())
    assert len(read_rows(tmp_path / "out/nuclei.csv")) > 35  # more than fit
    write_report(tmp_path / "out")
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.goto((tmp_path / "out/report.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    open_image(page, "many.tif")
    at_the_bottom = """() => {
        const { left, bottom } = document.getElementById("nuclei").getBoundingClientRect();
        return document.elementFromPoint(left + 20, bottom - 30).closest("tr").getAttribute("aria-hidden");
    }"""
    assert page.evaluate(at_the_bottom) is None  # a row, and not the space for rows that are not in view
    page.close()


def test_failures_and_warnings_come_first(page: Any, results: Path) -> None:
    assert page.locator("h2").first.text_content() == "Look at these first"
    assert "broken.png" in page.locator("#failed tbody").text_content()
    assert page.locator("#flagged .card").count() == 1
    assert "empty.png" in page.locator("#flagged .card").text_content()
    n = sum(int(row["n_nuclei"] or 0) for row in read_rows(results / "images.csv"))
    assert kept(page) == f"11 of 11 images, {n} of {n} nuclei"


def test_a_hostile_name_is_shown_and_does_nothing(page: Any) -> None:
    assert page.title() == "results - nuclei-edge report"
    page.locator("#gallery .card").filter(has=page.locator("b", has_text="document.title")).click()
    page.wait_for_selector("#nuclei td")
    assert "<script>" in page.locator("#viewer-title").text_content()
    page.keyboard.press("Escape")
    page.locator("#group").select_option("condition")
    assert "onerror" in page.locator("#numbers").text_content()
    page.locator("#group").select_option("image")
    page.wait_for_timeout(200)
    assert page.title() == "results - nuclei-edge report"
    assert page.locator("img").count() == 0


def test_a_click_on_a_nucleus_chooses_its_row_and_a_row_its_nucleus(page: Any, results: Path) -> None:
    open_image(page, "plate 1/A01.tif")
    first = next(row for row in read_rows(results / "nuclei.csv") if row["image"] == "plate 1/A01.tif")
    row, column = (float(first[f"centroid_{axis}_px"]) + 0.5 for axis in ("row", "column"))
    box = page.locator("#viewer canvas").bounding_box()
    zoom = min(box["width"] / 128, box["height"] / 96)
    left, top = box["x"] + (box["width"] - 128 * zoom) / 2, box["y"] + (box["height"] - 96 * zoom) / 2
    page.mouse.click(left + column * zoom, top + row * zoom)
    page.wait_for_selector("#nuclei tr[aria-selected=true]")
    assert page.locator("#nuclei tr[aria-selected=true] td").first.text_content() == first["label"]

    canvas = page.locator("#viewer canvas")
    before = canvas.evaluate(PIXELS)
    page.locator("#nuclei tbody tr:not([aria-hidden])").nth(3).click()
    page.wait_for_function("() => document.querySelector('#viewer-count').textContent.startsWith('Nucleus 4 of')")
    page.wait_for_timeout(100)
    assert canvas.evaluate(PIXELS) != before
    cells = page.locator("#nuclei tr[aria-selected=true] td").all_text_contents()
    header = page.locator("#nuclei th").all_text_contents()
    fourth = [one for one in read_rows(results / "nuclei.csv") if one["image"] == "plate 1/A01.tif"][3]
    assert number(cells[header.index("area_px")]) == float(fourth["area_px"])
    assert cells[header.index("touches_border")] == fourth["touches_border"]


def test_keys_do_what_clicks_do(page: Any) -> None:
    open_image(page, "plate 1/A01.tif")
    canvas = page.locator("#viewer canvas")
    page.wait_for_timeout(150)
    whole = canvas.evaluate(PIXELS)
    page.keyboard.press("o")
    page.wait_for_timeout(150)
    bare = canvas.evaluate(PIXELS)
    assert bare != whole
    assert not page.locator("#viewer input.outlines").is_checked()
    page.keyboard.press("o")
    page.keyboard.press("+")
    page.wait_for_timeout(150)
    assert canvas.evaluate(PIXELS) != whole
    page.keyboard.press("0")
    page.wait_for_timeout(150)
    assert canvas.evaluate(PIXELS) == whole
    page.keyboard.press("n")
    page.wait_for_function("() => document.querySelector('#viewer-title').textContent === 'plate 1/A02.tif'")
    page.locator("#nuclei").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('#viewer-count').textContent.startsWith('Nucleus 2 of')")
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_every_control_is_reached_by_the_tab_key_and_has_a_name(page: Any) -> None:
    names = page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas[tabindex], [tabindex]')]"
        ".filter(one => one.checkVisibility() && one.tabIndex >= 0)"
        ".map(one => one.ariaLabel || one.labels?.[0]?.textContent || one.textContent).map(text => text.trim())"
    )
    assert len(names) > 20
    assert "" not in names
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_filters_keep_images_and_nuclei_everywhere(page: Any, results: Path) -> None:
    nuclei = read_rows(results / "nuclei.csv")
    page.locator("[name=text]").fill("PLATE 1")
    page.wait_for_function("() => document.querySelector('#kept').value.startsWith('4 of 11 images')")
    assert page.locator("#gallery .card").count() == 4
    page.locator("[name=column]").select_option("area_px")
    page.locator("[name=low]").fill("150")
    page.locator("[name=border]").check()
    expected = [
        row
        for row in nuclei
        if row["image"].startswith("plate 1/") and float(row["area_px"]) >= 150 and row["touches_border"] == "false"
    ]
    page.wait_for_function(
        f"() => document.querySelector('#kept').value.includes(', {len(expected)} of {len(nuclei)} ')"
    )
    counted = page.locator("#numbers tbody td:nth-child(3)").all_text_contents()
    assert sum(map(int, counted)) == len(expected)
    page.locator("button[type=reset]").click()
    wait_for_nuclei(page, len(nuclei), len(nuclei))


def test_a_flag_is_a_filter_and_is_said_in_words(page: Any) -> None:
    offered = page.locator("[name=flag] option").all_text_contents()
    assert {"any", "blank", "failed"} <= set(offered)
    page.locator("[name=flag]").select_option("blank")
    page.wait_for_function("() => document.querySelector('#kept').value.startsWith('1 of 11 images')")
    assert Flag.BLANK.reason in page.locator("#flagged .card").text_content()
    page.locator("#flagged .card").click()
    assert page.locator("#viewer-flags").text_content() == f"{Flag.BLANK.reason}: {Flag.BLANK.advice}"
    page.keyboard.press("Escape")
    page.locator("button[type=reset]").click()


def test_charts_and_numbers_are_by_condition(page: Any, results: Path) -> None:
    page.locator("#measure").select_option("area_px")
    rows = page.locator("#numbers tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [row[0] for row in rows] == ["control", f"drug {TAG}", "no condition"]
    summary = next(row for row in read_rows(results / "summary.csv") if row["group"] == "control")
    assert rows[0][1:3] == [summary["n_images"], summary["n_nuclei"]]
    assert [number(cell) for cell in rows[0][3:]] == pytest.approx(
        [float(summary[f"area_px_{name}"]) for name in ("q25", "median", "q75")], rel=1e-3
    )
    assert page.locator("#histogram svg path[stroke]").count() == 3
    assert page.locator("#boxes svg rect").count() == 3


def test_a_well_keeps_its_images(page: Any) -> None:
    assert page.locator(".plate").count() == 2
    page.locator(".plate").first.get_by_role("button", name="Well B02").click()
    page.wait_for_function("() => document.querySelector('#kept').value.startsWith('1 of 11 images')")
    assert page.locator("#gallery .card").text_content().startswith("plate 1/B02.tif")
    page.locator("#well").click()
    page.wait_for_function("() => document.querySelector('#kept').value.startsWith('11 of 11 images')")


def test_it_can_be_printed_and_read_in_the_dark(browser: Any, results: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    opened = context.new_page()
    opened.goto((results / "report.html").as_uri())
    opened.wait_for_selector("body[data-ready]")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened.evaluate(ground) == "rgb(22, 22, 22)"
    opened.emulate_media(media="print")
    assert opened.evaluate(ground) == "rgb(255, 255, 255)"
    assert not opened.locator("#filters").is_visible()
    assert opened.locator("#summary-table").is_visible()
    assert opened.pdf().startswith(b"%PDF")
    context.close()


def test_nuclei_without_a_value_are_counted_and_sorted_last(browser: Any, results: Path, tmp_path: Path) -> None:
    out = shutil.copytree(results, tmp_path / "copied")
    with (out / "tables" / "plate 1" / "A01.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    place = header.index("circularity")
    for row in rows[::2]:
        row[place] = ""
    with (out / "tables" / "plate 1" / "A01.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    write_report(out)
    opened = browser.new_page(viewport={"width": 1300, "height": 900})
    opened.goto((out / "report.html").as_uri())
    opened.wait_for_selector("body[data-ready]")
    opened.locator("#measure").select_option("circularity")
    opened.wait_for_function("() => document.querySelector('#meaning').textContent.startsWith('circularity')")
    n_empty = len(rows[::2])
    assert f"{n_empty} nuclei have no value" in opened.locator("#meaning").text_content()

    open_image(opened, "plate 1/A01.tif")
    head = opened.locator("#nuclei th button", has_text="circularity")
    known = sorted(float(row[place]) for row in rows if row[place])
    shown = opened.locator("#nuclei th").all_text_contents().index("circularity")
    for direction, expected in (("ascending", known), ("descending", known[::-1])):
        head.click()
        opened.wait_for_selector(f"#nuclei th[aria-sort={direction}]")
        cells = opened.locator(f"#nuclei tbody tr:not([aria-hidden]) td:nth-child({shown + 1})").all_text_contents()
        assert [float(cell) for cell in cells[: len(known)]] == pytest.approx(expected, rel=1e-4)
        assert cells[len(known) :] == [""] * n_empty
    opened.close()


def test_a_limit_includes_the_values_that_are_equal_to_it(page: Any, results: Path) -> None:
    nuclei = read_rows(results / "nuclei.csv")
    values = [row["eccentricity"] for row in nuclei]
    page.locator("[name=column]").select_option("eccentricity")
    for value in values[:3]:
        page.locator("[name=low]").fill(value)
        page.locator("[name=high]").fill(value)
        wait_for_nuclei(page, values.count(value), len(nuclei))


@pytest.fixture
def scripts(browser: Any) -> Iterator[Any]:
    """A page with two pictures and an empty column, and the functions of the report, which the report itself hides."""
    report = {
        "images": [{"n": 0, "row": {"width": "90", "height": "90"}, "picture": True}] * 2,
        "columns": [{"name": "label"}, {"name": "area_px"}],
        "n_dropped_bits": 0,
    }
    blocks = {"report": json.dumps(report)}
    for index, colour in enumerate(("red", "blue")):
        Image.new("RGB", (90, 90), colour).save(picture := io.BytesIO(), "webp")
        blocks[f"picture-{index}"] = base64.b64encode(picture.getvalue()).decode()
    nothing = base64.b64encode(zlib.compress(b"")).decode()
    blocks |= {f"column-{column}-{byte}": nothing for column in range(2) for byte in range(4)}
    opened = browser.new_page()
    opened.set_content(
        "".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in blocks.items())
    )
    for name in ("data.js", "gallery.js"):
        opened.add_script_tag(content=(files("nuclei_runtime") / "report" / "page" / name).read_text(encoding="utf-8"))
    yield opened
    opened.close()


def test_what_was_asked_for_last_is_what_a_canvas_shows(scripts: Any) -> None:
    """Even if what was asked for before takes longer: here, a column has to be unpacked for it."""
    assert scripts.evaluate(
        """async () => {
            const canvas = element("canvas", { width: 90, height: 90 }), view = { left: 0, top: 0, zoom: 1 };
            const drawings = [];
            for (const index of [0, 1]) {
                await drawImageOf(index, canvas, view);
                drawings.push(canvas.toDataURL());
            }
            colourBy = "area_px";
            const slow = drawImageOf(0, canvas, view);
            colourBy = "";
            await Promise.all([slow, drawImageOf(1, canvas, view)]);
            return drawings[0] !== drawings[1] && canvas.toDataURL() === drawings[1];
        }"""
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3], [2.5, 3.5]), ([1, 2], [1, 2]), (range(999), [0, 998]), (range(3000), [3, 2996])],
    ids=["one", "two", "few", "many"],
)
def test_charts_leave_out_the_outermost_thousandth_and_nothing_of_a_few(
    scripts: Any, values: list[int], expected: list[float]
) -> None:
    source = (files("nuclei_runtime") / "report" / "page" / "charts.js").read_text(encoding="utf-8")
    scripts.add_script_tag(content=source)
    groups = f"[{{ name: 'all', values: Float32Array.from({list(values)}) }}]"
    assert scripts.evaluate(f"rangeOf({groups})") == expected
    for chart in ("histogram", "boxPlots"):
        assert "NaN" not in scripts.evaluate(f"{chart}({groups}, 'area_px').outerHTML")


def test_limits_are_rounded_like_values(scripts: Any) -> None:
    values = np.array([0.9, 0.1, 123.456, 1999.5, 1e-7, 0, -3.3], np.float64)
    for n_dropped_bits in (0, dropped_bits(MAX_EXACT_VALUES + 1)):
        packed = PackedColumn(n_dropped_bits)
        packed.add(values.astype(np.float32))
        planes = [np.frombuffer(zlib.decompress(plane), np.uint8) for plane in packed.finish()]
        expected = np.stack(planes, axis=-1).reshape(-1).view("<f4").astype(np.float64).tolist()
        script = "([values, n]) => { report.n_dropped_bits = n; return values.map(stored); }"
        assert scripts.evaluate(script, [values.tolist(), n_dropped_bits]) == expected
