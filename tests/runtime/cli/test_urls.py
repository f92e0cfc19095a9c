"""Commands with URLs: what they print, and that no secret gets out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer
from nuclei_runtime.cli.report import main as report
from nuclei_runtime.stores.remote import RemoteFolder

pytest.importorskip("fsspec")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(fluorescence_field(ord(name), height=64, width=80, n_nuclei=5)[0]).save(
            tmp_path / f"in/{name}.png"
        )
    return tmp_path / "in"


@pytest.fixture
def lab(images: Path, request: pytest.FixtureRequest) -> RemoteFolder:
    request.getfixturevalue("s3")
    folder = RemoteFolder("s3://lab")
    for path in images.iterdir():
        folder.put(path, f"in/{path.name}")
    return folder


def test_no_secret_is_printed_or_written(s3: Any, lab: RemoteFolder, run_main: Run, tiny_model: Path) -> None:
    command = [infer, "s3://lab/in", "--model", tiny_model, "--threads", 1, "--report"]
    code, out, err = run_main(*command, "--out", "s3://lab/out")
    assert (code, err) == (0, "")
    assert "results in s3://lab/out: labels, overlays" in out
    s3.fail("403 Forbidden", code="InvalidAccessKeyId", method="PUT", path="/other/labels")
    code, *printed = run_main(*command, "--out", "s3://lab/other")
    assert code == 3
    assert printed[1].startswith("error: s3://lab/other/labels/")
    assert "cannot be written: access is denied" in printed[1]
    written = {name: lab.read(name) for name in lab.files()}
    assert b"nuclei-edge report" in written["out/report.html"]
    assert json.loads(written["out/provenance.json"])["machine"]["images_folder"] == "s3://lab/in"
    for secret in (s3.ACCESS_KEY, s3.SECRET_KEY):
        assert not any(secret in text for text in (out, err, *printed))
        assert not any(secret.encode() in content for content in written.values())


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("s3://lab/nothing", 2, "s3://lab/nothing: no such object or folder"),
        ("s3://another/in", 2, "s3://another/in: no such object or folder"),
        ("s3://lab/denied", 3, "cannot be read: access is denied"),
        ("s3://lab/in/*.tif", 2, "s3://lab/in/*.tif: no file or folder matches"),
        ("s3://key:secret@lab/in", 2, "s3://...: contains a user name and a secret"),
        ("nosuch://lab/in", 2, "Protocol not known: nosuch"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(
    source: str, code: int, message: str, s3: Any, run_main: Run, tmp_path: Path
) -> None:
    if "denied" in source:
        s3.fail("403 Forbidden", code="AccessDenied")
    found, _, err = run_main(infer, source, "--out", tmp_path / "out")
    assert found == code
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_paths_and_urls_together(images: Path, run_main: Run, tmp_path: Path, tiny_model: Path) -> None:
    code, _, err = run_main(infer, images, "memory://cli/in", "--out", tmp_path / "out")
    assert (code, err) == (2, "error: some inputs are paths and others are URLs; segment them in separate runs\n")
    code, _, err = run_main(infer, "memory://one/in", "s3://two/in", "--out", tmp_path / "out")
    assert (code, "several stores or buckets" in err) == (2, True)
    for arguments in ((images, "--out", "memory://cli/out"), ("memory://cli/in", "--out", tmp_path)):
        code, _, err = run_main(infer, *arguments, "--watch")
        assert (code, "--watch takes local folders" in " ".join(err.split())) == (2, True)
    # Images from a disk and results to a store, then the other way round.
    code, out, _ = run_main(infer, images, "--out", "memory://cli/out", "--model", tiny_model)
    assert (code, "results in memory://cli/out: " in out) == (0, True)
    code, out, _ = run_main(report, "memory://cli/out")
    assert (code, out) == (0, "report in memory://cli/out/report.html\n")
    folder = RemoteFolder("memory://cli")
    for path in images.iterdir():
        folder.put(path, f"in/{path.name}")
    code, out, _ = run_main(infer, "memory://cli/in/*.png", "--out", tmp_path / "out", "--model", tiny_model)
    assert (code, "2 of 2 images" in out) == (0, True)
    assert (tmp_path / "out/nuclei.csv").read_bytes() == folder.read("out/nuclei.csv")
    code, out, _ = run_main(
        infer, "memory://cli/in/a.png", "--out", tmp_path / "single", "--model", tiny_model, "--json"
    )
    assert (code, json.loads(out)["image"]) == (0, "a.png")
    folder.remove(folder.files())
