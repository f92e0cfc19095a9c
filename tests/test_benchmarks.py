"""The benchmarks' page for made-up results, in which each figure is known; and the contrast benchmark."""

from __future__ import annotations

import inspect
import json
import re
from copy import deepcopy
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from benchmarks import fine_tuning
from benchmarks.contrast import area_ratio, draw_nuclei
from benchmarks.figures import busy_ratio, peer_times, share_of_sgemm, share_outside_network
from benchmarks.page import SCORES_PAGE, render
from benchmarks.peers.run import REFERENCE, ratio_table
from benchmarks.plan import figures
from benchmarks.plan import main as plan_main
from benchmarks.plots import draw
from benchmarks.reliability import N_BINS, area_under_roc, bins_of, calibration_error
from benchmarks.reliability import draw as draw_reliability
from benchmarks.run import compact
from benchmarks.shares import PARTS, Clock

ROOT = Path(__file__).parents[1]

PEERS: dict[str, Any] = {
    name: {
        "images": 8,
        "megapixels": 4.0,
        "loaded_after_s": 1.25,
        "peak_mib": 300.4,
        "nuclei": 50,
        "seconds": seconds,
        "cpu_seconds": [2 * second for second in seconds],
    }
    for name, seconds in {
        REFERENCE: [8.0, 16.0, 8.0],
        "nuclei-edge fp32, a folder": [2.0, 4.0, 4.0],
        "nuclei-edge int8, a folder": [1.0, 1.0, 2.0],
    }.items()
}


def row(what: str, seconds: list[float], params: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    return {"what": what, "params": params or {}, "seconds": seconds, "cpu_seconds": seconds, **extra}


@pytest.fixture
def results() -> dict[str, Any]:
    fp32, int8 = {"precision": "fp32"}, {"precision": "int8"}
    network = {"provider": "CPUExecutionProvider", "batch": 1, "threads": 2}
    flops = {"flops": 2e9, "sgemm_flops": 8e9}
    rows = [
        row("network", [0.5], {**network, **fp32, "tile": 256}, megapixels=1.0),
        row("network", [0.25], {**network, **int8, "tile": 256}, megapixels=1.0),
        row("network", [2.0], {**network, **fp32, "tile": 512}, megapixels=3.0),
        row("network_and_sgemm", [1.0, 2.0], fp32, reference_seconds={"sgemm": [2.0, 4.0]}, **flops),
        row("network_and_sgemm", [1.0], int8, reference_seconds={"sgemm": [2.0], "fp32": [1.7]}, **flops),
        row("stages", [10.0], int8, reference_seconds={"decode": [0.5], "network": [6.0]}),
        row("one_image_and_its_libraries", [0.9], reference_seconds={"libraries": [0.2], "used parts": [0.4]}),
        row("import_and_numpy", [0.025], reference_seconds={"numpy": [0.1], "nothing": [0.015]}),
        row("folder_with_writing", [2.0], int8, megapixels=4.0, images=8),
        row(
            "keras_and_onnx_runtime",
            [4.0],
            {"batch": 4},
            megapixels=2.0,
            reference_seconds={"onnxruntime": [1.0]},
        ),
        row("area", [0.5], {"side": 256}, megapixels=0.25),
        row("memory", [1.5], {"side": 256}, peak_bytes=[3 << 20]),
        row(
            "variants",
            [2.0],
            {**int8, "tta": False},
            megapixels=5.0,
            model_mb=1.25,
            scores=[
                {"dataset": "data/val", "metric": "mean AP", "value": 0.625},
                {"dataset": "data/val", "metric": "Dice", "value": 0.9},
            ],
        ),
        row("variants", [20.0], {**int8, "tta": True}, megapixels=5.0, model_mb=1.25, scores=[]),
        row("nuclei", [0.75], {"nuclei": 16}, nuclei=40, megapixels=1.0, reference_seconds={"table": [0.125]}),
    ]
    library = {"library": "quicklabel 3.1", "agrees": 7, "images": 8, "installed_mb": 12.4}
    libraries = [row("libraries", [0.5], {"task": "label", "index": 1}, megapixels=4.0, **library)]
    absent = {"test_network[CUDAExecutionProvider-fp32-1-256-2]": "not in this ONNX Runtime"}
    return {
        "hardware": {
            "processor": "Abacus 7",
            "flags": ["avx512_vnni"],
            "cores": 2,
            "memory_gib": 8.0,
            "governor": "performance",
            "hypervisor": False,
            "gpu": None,
            "system": "Linux x86_64",
            "python": "3.11.0",
            "packages": {"onnxruntime": "1.0"},
        },
        "peers": deepcopy(PEERS),
        "model": "nuclei-unet-native 1.0.0",
        "installed_mb": 321,
        "own": {"rows": rows, "not_measured": absent, "packages": {"onnxruntime": "1.0"}},
        "openvino": {"rows": [], "not_measured": {"OpenVINOExecutionProvider": "no such package"}, "packages": {}},
        "libraries": {"rows": libraries, "not_measured": {}, "packages": {}},
    }


def cells(page: str, first: str) -> list[list[str]]:
    """Return the other cells of the rows that begin with a cell."""
    found = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return [row[1:] for row in found if row[0] == first]


def test_the_ratio_table_holds_medians_and_the_median_of_the_rounds_ratios() -> None:
    assert peer_times(PEERS, "nuclei-edge fp32, a folder", REFERENCE) == 4.0
    page = ratio_table(PEERS, 2)
    assert cells(page, REFERENCE) == [["1.0", "0.50", "1.00", "1.00", "1.2 s", "300 MiB", "50"]]
    assert cells(page, "nuclei-edge int8, a folder") == [["8.0", "4.00", "8.00", "1.00", "1.2 s", "300 MiB", "50"]]


def test_shares_and_ratios_are_of_the_same_round(results: dict[str, Any]) -> None:
    rows = results["own"]["rows"]
    assert share_of_sgemm(rows[3]) == 0.5
    assert share_outside_network(rows[5]) == pytest.approx(0.4)
    assert busy_ratio([2.0, 3.0], [4.0, 3.0], 2) == 1.5


def test_the_page_begins_with_the_hardware_and_the_command_and_shows_every_bar(results: dict[str, Any]) -> None:
    page = render(results, {"Speed": "results/peers.svg"})
    lines = page.splitlines()
    assert lines[0] == "# Benchmarks"
    assert lines[4] == "| processor | Abacus 7 |"
    assert "python -m benchmarks.run DATA --peers FOLDER" in lines
    for what, figure in {
        f"nuclei-edge int8, a folder, compared with {REFERENCE}": "4.00 and 0.50 MP/s: **8.00 times**",
        "network alone, fp32, relative to sgemm's rate, 2 threads": "50%",
        "network alone, int8 relative to fp32": "1.70",
        "all but the network, share of CPU time, int8": "40%",
        "nuclei-edge int8, a folder: wall time divided by CPU time per core, 2 cores": "1.00",
        "nuclei-edge int8, a folder: peak memory": "300 MiB",
        "one 256 x 256 image from a cold start, compared with importing its libraries": "0.90 s and 0.40 s",
        "`import nuclei_runtime`, compared with `import numpy`": "10 and 85 ms",
        "a fresh environment with the extra `cpu` (`du -sm lib`)": "321 MB",
    }.items():
        assert cells(page, what) == [[figure]], what
    assert "![Speed](results/peers.svg)" in lines


def test_the_page_shows_each_benchmark_and_names_what_was_not_measured(results: dict[str, Any]) -> None:
    page = render(results, {})
    assert ["fp32", "2", "onnxruntime 1.0", "2.00", "1.50"] in cells(page, "CPUExecutionProvider")
    assert ["int8", "2", "onnxruntime 1.0", "4.00", "not measured"] in cells(page, "CPUExecutionProvider")
    assert cells(page, "int8") == [
        ["4.0", "2.00", "2.00"],
        ["no", "1.2", "2.50", "0.625"],
        ["yes", "1.2", "0.25", SCORES_PAGE],
    ]
    assert cells(page, "together") == [["10.00 s"]]
    assert [cells(page, part) for part in ("decode", "network", "all else")] == [[["5.0%"]], [["60.0%"]], [["35.0%"]]]
    assert cells(page, "label") == [["quicklabel 3.1", "8", "7 of 8 images", "12"]]
    assert cells(page, "4") == [["0.50", "2.00", "4.0"]]
    assert cells(page, "256²") == [["0.50", "2.00", "1.5", "3 MiB"]]
    assert cells(page, "40") == [["0.75", "0.125"]]
    assert page.endswith(
        "## Not measured\n\n- CUDAExecutionProvider: not in this ONNX Runtime\n"
        "- OpenVINOExecutionProvider: no such package\n"
    )


def test_a_provider_that_ran_anywhere_is_not_among_the_absent(results: dict[str, Any]) -> None:
    moved = deepcopy(results["own"]["rows"][0])
    moved["params"]["provider"] = "OpenVINOExecutionProvider"
    results["openvino"] = {"rows": [moved], "not_measured": {}, "packages": {"onnxruntime-openvino": "1.2"}}
    results["own"]["not_measured"]["test_network[OpenVINOExecutionProvider-fp32-1-256-2]"] = "not in this ONNX Runtime"
    page = render(results, {})
    assert cells(page, "OpenVINOExecutionProvider") == [
        ["fp32", "2", "onnxruntime-openvino 1.2", "2.00", "not measured"]
    ]
    assert "- OpenVINO" not in page


def test_the_same_results_give_the_same_plots(results: dict[str, Any], tmp_path: Path) -> None:
    plots = draw(results, tmp_path)
    before = {path: path.read_bytes() for path in plots.values()}
    assert len(before) == 3
    assert {path: path.read_bytes() for path in draw(results, tmp_path).values()} == before


def test_of_pytest_benchmarks_document_nothing_is_kept_that_names_the_machine() -> None:
    document = {
        "machine_info": {"node": "secret", "packages": {"numpy": "2"}},
        "not_measured": {},
        "benchmarks": [
            {
                "name": "test_area[256]",
                "fullname": "somewhere::test_area[256]",
                "params": {"side": 256},
                "stats": {"data": [1.0, 2.0]},
                "extra_info": {"megapixels": 0.5},
            }
        ],
    }
    kept = compact(document)
    assert kept["rows"] == [{"what": "area", "params": {"side": 256}, "seconds": [1.0, 2.0], "megapixels": 0.5}]
    assert "secret" not in json.dumps(kept)


def test_the_fields_of_the_contrast_benchmark_hold_separate_nuclei_whose_areas_are_compared() -> None:
    truth = draw_nuclei(6, 1024, np.random.default_rng(0))
    assert label(truth > 0)[1] == truth.max() == 6
    larger, _ = label(binary_dilation(truth > 0))
    ratio = area_ratio(truth, larger)
    assert ratio is not None
    assert ratio > 1.1
    assert area_ratio(truth, truth) == 1.0
    assert area_ratio(truth, np.zeros_like(truth)) is None


def test_the_error_and_the_area_of_scores_are_those_of_their_definitions(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(30_000)
    right = rng.random(scores.size) < scores  # calibrated
    assert calibration_error(scores, right) < 0.02
    assert calibration_error(np.clip(scores + 0.2, 0, 1), right) == pytest.approx(0.18, abs=0.02)
    assert (bins_of(scores, right)[:, 0] == 30_000 / N_BINS).all()
    few = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True])
    assert area_under_roc(*few) == (1 + 1 + 1 + 0.5) / 4  # of the four pairs, one is equal
    assert np.isnan(area_under_roc(scores, np.ones(scores.size, bool)))
    for name in ("a.svg", "b.svg"):
        draw_reliability(tmp_path / name, [("one", scores, right), ("two", *few)])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_the_plan_page_has_the_figures_of_its_script() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    cells = dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", text.partition("The assumptions:")[0], re.MULTILINE))
    defaults = {name: one.default for name, one in inspect.signature(plan_main).parameters.items()}
    both = [figures(**{**defaults, "speed": speed}) for speed in (1.0, 1.5)]
    for row, what, unit in (
        ("processor time", "processor time", " hours"),
        ("duration on 800 processors", "duration on all processors", " minutes"),
        ("bytes read", "bytes read", " GB"),
        ("bytes written", "bytes written", " GB"),
        ("of these, without overlays", "written without overlays", " GB"),
        ("files written", "files", " million"),
        ("nuclei", "nuclei", " million"),
        ("`nuclei.csv`", "nuclei.csv", " GB"),
        ("processors that one Dask scheduler keeps busy", "processors that Dask's scheduler keeps busy", ""),
        ("requests to an object store", "cost: requests", ""),
        ("a month of storage", "cost: storage for a month", ""),
    ):
        values = [one[what][0] * (60 if unit == " minutes" else 1) for one in both]
        assert cells[row] == " | ".join(f"{value:,.0f}{unit}" for value in values), row
    assert cells["processors, in US dollars"] == " | ".join(f"{one['cost: processors'][0]:.2f}" for one in both)


def test_the_table_of_fine_tunings_has_a_row_for_each_number_of_images(tmp_path: Path) -> None:
    def write(name: str, held_out: float, original: float, spread: float = 0.0, n_images: int = 8) -> None:
        scores = {"held out": held_out, "original": original}
        document = {
            kind: [{"mean AP": ap + sign * spread, "AP@0.5": 0.0} for sign in (-1, 1) for _ in range(n_images // 2)]
            for kind, ap in scores.items()
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")

    write("before", 0.3, 0.6)
    write("replay_20_1", 0.5, 0.6, spread=0.1)
    write("replay_20_2", 0.4, 0.58, spread=0.1)
    write("replay_5_1", 0.35, 0.6)
    write("alone_20_1", 0.5, 0.5)
    assert list(fine_tuning.table(tmp_path))[2:] == [
        "| 0 | | 0.300 | | | 0.600 | |",
        "| 5 | yes | 0.350 | +0.050 (+0.050 to +0.050) | +0.050 | 0.600 | +0.000 (+0.000 to +0.000) |",
        "| 20 | yes | 0.450 | +0.150 (+0.075 to +0.225) | +0.200, +0.100 | 0.590 | -0.010 (-0.085 to +0.065) |",
        "| 20 | no | 0.500 | +0.200 (+0.200 to +0.200) | +0.200 | 0.500 | -0.100 (-0.100 to -0.100) |",
    ]
    for path in tmp_path.glob("*.json"):  # too few images for an interval
        write(path.stem, 0.3, 0.6, n_images=2)
    assert list(fine_tuning.table(tmp_path))[3] == "| 5 | yes | 0.300 | +0.000 | +0.000 | 0.600 | +0.000 |"
    fine_tuning.draw(tmp_path)
    assert (tmp_path / "fine_tuning.svg").read_text(encoding="utf-8").count("<path") > 10


def test_processor_time_counts_for_the_innermost_part() -> None:
    ticks = iter([0.0, 1.0, 4.0, 4.5, 5.0, 10.0])  # outer from 0 to 10, inner from 1 to 4 and from 4.5 to 5
    clock = Clock(lambda: next(ticks))
    inner = clock.timed("inner", lambda: None)
    clock.timed("outer", lambda: [inner(), inner()])()
    assert clock.seconds == {"inner": 3.5, "outer": 6.5}


def test_the_functions_of_each_part_exist() -> None:
    for name in sum(PARTS.values(), ()):
        module, path = name.split(":")
        assert callable(attrgetter(path)(import_module(f"nuclei_runtime.{module}")))
