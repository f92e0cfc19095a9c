"""Adding an output takes one module and one row. Tested on a copy of the package, with the command that users run."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nuclei_runtime
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.results.layout import token_of

MODULE = '''
"""The middles of the nuclei, one line each: a toy output."""

import numpy as np

from nuclei_runtime.writers.plane_writer import PlaneWriter


class MiddlesWriter(PlaneWriter):
    def __init__(self, path, image, plane):
        super().__init__(path, image, plane)
        self._file = path.open("w", encoding="utf-8", newline="")

    def write_block(self, block, table):
        for label in np.unique(block.labels[block.labels > 0]):
            rows, columns = np.nonzero(block.labels == label)
            middle = rows.mean() + block.rows.start, columns.mean() + block.columns.start
            print(label, *middle, file=self._file)

    def finish(self, labels, n_nuclei):
        print("nuclei:", n_nuclei, file=self._file)

    def close(self):
        self._file.close()
'''
ROW = '    Output("middles", ".txt", MiddlesWriter),\n'


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a copy of the package that has one more output."""
    folder = tmp_path_factory.mktemp("package")
    source = Path(nuclei_runtime.__file__).parent
    shutil.copytree(source, folder / "nuclei_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "nuclei_runtime/writers/middles_txt.py").write_text(MODULE, encoding="utf-8")
    outputs = folder / "nuclei_runtime/writers/outputs.py"
    text = outputs.read_text(encoding="utf-8").replace("    TABLES,\n", f"    TABLES,\n{ROW}")
    text = text.replace(
        "\nLABELS = Output(", "\nfrom nuclei_runtime.writers.middles_txt import MiddlesWriter\n\nLABELS = Output("
    )
    assert ROW in text
    outputs.write_text(text, encoding="utf-8")
    return folder


class Commands:
    """Runs nuclei-infer of the copy again and again, in one process that has imported it."""

    PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from nuclei_runtime.cli.infer import main

for line in sys.stdin:
    sys.argv[1:] = json.loads(line)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as error:
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), error.getvalue()]), flush=True)
"""

    def __init__(self, package: Path) -> None:
        variables = {**os.environ, "PYTHONPATH": str(package), "PYTHONUTF8": "1"}
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
        self.process = subprocess.Popen([sys.executable, "-c", self.PROGRAM], text=True, env=variables, **pipes)

    def infer(self, *arguments: object) -> tuple[int, str, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([str(argument) for argument in arguments]), file=self.process.stdin, flush=True)
        code, out, error = json.loads(self.process.stdout.readline())
        return code, out, error


@pytest.fixture
def commands(package: Path) -> Iterator[Commands]:
    started = Commands(package)
    with started.process:
        yield started
        started.process.kill()


def test_a_new_output_is_one_module_and_one_row(tmp_path: Path, tiny_model: Path, commands: Commands) -> None:
    planes = [fluorescence_field(seed, height=96, width=120, n_nuclei=8)[0] for seed in range(3)]
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/a.tif", planes[0])
    tifffile.imwrite(tmp_path / "in/series.ome.tif", np.stack(planes[1:]), metadata={"axes": "TYX"})
    out = tmp_path / "out"
    arguments = (tmp_path / "in", "--out", out, "--model", tiny_model, "--save", "labels,table,middles")
    code, _, error = commands.infer(*arguments)
    assert code == 0, error

    # In the results folder: one file per plane, written from the blocks and from the labels.
    with (out / "images.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    middles = [row["labels"].replace("labels/", "middles/").replace(".tif", ".txt") for row in rows]
    assert middles == ["middles/a.txt", "middles/series.ome_t000.txt", "middles/series.ome_t001.txt"]
    for row, path in zip(rows, middles, strict=True):
        *lines, last = (out / path).read_text(encoding="utf-8").splitlines()
        assert last == f"nuclei: {row['n_nuclei']}"
        assert len(lines) == int(row["n_nuclei"]) > 0

    # In the record, with its digest.
    record = json.loads((out / "records" / f"{token_of('a.tif')}.json").read_text(encoding="utf-8"))
    assert set(record["results"]) == {"labels/a.tif", "original_labels/a.tif", "tables/a.csv", "middles/a.txt"}
    assert record["results"]["middles/a.txt"] == hashlib.sha256((out / "middles/a.txt").read_bytes()).hexdigest()

    # --verify finds a changed file, and --resume keeps it; it makes one again that is missing.
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert commands.infer(*arguments, "--verify")[0] == 0
    (out / "middles/a.txt").write_text("nuclei: 0\n")
    code, printed, _ = commands.infer(*arguments, "--verify")
    assert (code, "middles/a.txt" in printed) == (1, True)
    code, _, error = commands.infer(*arguments, "--resume")
    assert (code, error) == (1, "kept: a.tif: middles/a.txt was changed after the run\n")
    (out / "middles/a.txt").unlink()
    code, _, error = commands.infer(*arguments, "--resume")
    assert (code, error) == (0, "segmented again: a.tif: middles/a.txt is missing or damaged\n")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == whole

    # --overwrite removes the results of an image that no longer exists.
    shutil.move(tmp_path / "in/series.ome.tif", tmp_path / "series.ome.tif")
    assert commands.infer(*arguments, "--overwrite")[0] == 0
    assert [path.name for path in (out / "middles").iterdir()] == ["a.txt"]
