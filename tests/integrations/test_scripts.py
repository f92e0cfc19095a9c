"""The scripts for Fiji and QuPath: what they ask of nuclei-infer exists, and where the programs are, they run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.steps.stains import AS_IS, STAINS

ROOT = Path(__file__).parents[2]
FIJI = ROOT / "integrations" / "fiji" / "Segment_Nuclei.py"
QUPATH = ROOT / "integrations" / "qupath" / "segment_nuclei.groovy"
IMAGEJ_JAR = Path("/usr/share/java/ij.jar")  # of Debian
FIELD, _ = fluorescence_field(5, height=128, width=160, n_nuclei=12)

DRIVER = """
import sys
sys.path.append(sys.argv[1])
import imp
from ij import IJ
from ij.measure import ResultsTable
from ij.plugin.frame import RoiManager
script = imp.load_source("script", sys.argv[2])
image = IJ.openImage(sys.argv[4])
image.setDimensions(1, 2, 1)
image.setOpenAsHyperStack(True)
image.show()
for z in (1, 2):
    image.setSlice(z)
    rois, table, text, folder = script.segment(image, sys.argv[3])
    print(script.load_outlines(image, rois))
for roi in RoiManager.getInstance().getRoisAsArray():
    print(roi.getName(), roi.getStatistics().area, roi.getZPosition())
try:
    script.segment(image, sys.argv[3], 2)
except script.RefusedError as error:
    print(error.args[0].splitlines()[0])
from java.lang import System
System.exit(0)
"""


@pytest.mark.parametrize("script", [FIJI, QUPATH])
def test_the_options_of_a_script_exist(
    script: Path, run_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = set(re.findall(r'"(--[a-z-]+)"', script.read_text(encoding="utf-8")))
    assert {"--out", "--save", "--diameter", "--stain"} <= options
    known = set(re.findall(r"--[a-z-]+", run_here("nuclei-infer", "--help").stdout))
    assert options <= known


def test_the_stains_of_the_scripts_are_those_of_the_runtime() -> None:
    assert f'"{AS_IS}", {", ".join(f"{chr(34)}{stain}{chr(34)}" for stain in STAINS)}]' in FIJI.read_text("utf-8")
    assert all(stain in QUPATH.read_text("utf-8") for stain in (AS_IS, *STAINS))


@pytest.mark.parametrize(
    ("name", "save", "results"),
    [
        ("plane.tif", "table,roi", ("nuclei.csv", "roi/plane.zip")),
        ("region.ome.tif", "geojson", ("geojson/region.ome.geojson",)),
    ],
)
def test_a_script_finds_what_it_asked_for(
    tmp_path: Path, run_here: Callable[..., Any], name: str, save: str, results: tuple[str, ...]
) -> None:
    tifffile.imwrite(tmp_path / name, FIELD)
    done = run_here("nuclei-infer", tmp_path / name, "--out", tmp_path / "results", "--save", save)
    assert done.returncode == 0, done.stderr
    assert all((tmp_path / "results" / result).is_file() for result in results)
    assert f'"{save}"' in FIJI.read_text("utf-8") + QUPATH.read_text("utf-8")


def test_an_empty_zip_of_rois_is_as_large_as_the_script_for_fiji_thinks(
    tmp_path: Path, run_here: Callable[..., Any]
) -> None:
    tifffile.imwrite(tmp_path / "plane.tif", np.zeros((64, 64), np.uint8))
    run_here("nuclei-infer", tmp_path / "plane.tif", "--out", tmp_path / "out", "--save", "roi")
    size = (tmp_path / "out" / "roi" / "plane.zip").stat().st_size
    assert f"EMPTY_ZIP_BYTES = {size} " in FIJI.read_text("utf-8")


def test_imagej_loads_the_outlines(tmp_path: Path) -> None:
    """ImageJ 1 with Jython, as Fiji has them; not Fiji itself."""
    jython = shutil.which("jython")
    if jython is None or not IMAGEJ_JAR.is_file() or "DISPLAY" not in os.environ:
        pytest.skip("NOT RUN: needs a display (xvfb-run), and ImageJ and Jython: apt install imagej jython")
    stack = np.stack([np.zeros_like(FIELD), FIELD])
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    command = Path(sysconfig.get_path("scripts")) / "nuclei-infer"
    done = subprocess.run(
        [jython, tmp_path / "driver.py", IMAGEJ_JAR, FIJI, command, tmp_path / "stack.tif"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # the driver leaves the folders of the results
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "0", done.stderr
    assert lines[-1] == "nuclei-infer ended with exit code 2:"
    labels = label_areas()
    assert lines[1] == str(len(labels))
    assert lines[2:-1] == [str((str(label), float(area), 2)).replace("('", "(u'") for label, area in labels.items()]


def label_areas() -> dict[int, int]:
    from nuclei_runtime import Segmenter

    areas = np.bincount(Segmenter().segment(FIELD).labels.ravel())
    return {label: int(area) for label, area in enumerate(areas) if label}


@pytest.fixture
def groovy(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run a Groovy script."""
    command, java = shutil.which("groovy"), Path(os.path.realpath(shutil.which("java") or "java"))
    if command is None:
        pytest.skip("NOT RUN: needs Groovy: apt install groovy")

    def run(script: str, *arguments: Path) -> subprocess.CompletedProcess[bytes]:
        (tmp_path / "run.groovy").write_text(script, encoding="utf-8")
        variables = {**os.environ, "JAVA_HOME": str(java.parents[1])}
        return subprocess.run(
            [command, tmp_path / "run.groovy", *arguments], capture_output=True, check=False, env=variables
        )

    return run


def test_places_in_a_region_become_places_in_the_image(groovy: Any) -> None:
    """With a map instead of a MeasurementList of QuPath, which has the same methods."""
    script = QUPATH.read_text(encoding="utf-8")
    function = re.search(r"^void placeInImage\(.*?^}$", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    measured = (
        "centroid_row_px: 20.5d, centroid_column_px: 30.25d, bbox_top_px: 0d, bbox_left_px: 20d, bbox_bottom_px: 41d, "
        "bbox_right_px: 40d, area_px: 300d, touches_border: 1d"
    )
    run = (
        f"def inside = [{measured}], atEdge = [{measured}, centroid_row_um: 10.25d, centroid_column_um: 15.125d]\n"
        "placeInImage(inside, 100, 200, 1000, 1000, Double.NaN, Double.NaN)\n"
        "placeInImage(atEdge, 960, 200, 1000, 1000, 0.5d, 0.25d)\n"
        "println groovy.json.JsonOutput.toJson([inside, atEdge])"
    )
    done = groovy(f"{function[0]}\n{run}")
    assert done.returncode == 0, done.stderr
    inside, at_edge = json.loads(done.stdout)
    assert inside == {
        **{"centroid_row_px": 220.5, "centroid_column_px": 130.25, "bbox_top_px": 200, "bbox_left_px": 120},
        **{"bbox_bottom_px": 241, "bbox_right_px": 140, "area_px": 300, "touches_border": 0},
    }
    assert (at_edge["bbox_right_px"], at_edge["touches_border"]) == (1000, 1)
    assert (at_edge["centroid_row_um"], at_edge["centroid_column_um"]) == (10.25 + 50, 15.125 + 480)


def test_groovy_reads_the_script_for_qupath(groovy: Any, tmp_path: Path) -> None:
    parse = (
        "import org.codehaus.groovy.control.*\nnew CompilationUnit().with { addSource(new File(args[0])); compile(3) }"
    )
    broken = tmp_path / "broken.groovy"
    broken.write_text(QUPATH.read_text("utf-8").replace("int count = 0", "int count = = 0"), encoding="utf-8")
    codes = [groovy(parse, script) for script in (QUPATH, broken)]
    assert codes[0].returncode == 0, codes[0].stderr
    assert b"unexpected token: =" in codes[1].stderr
