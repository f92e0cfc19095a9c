"""One view for all images of a run, and what the tables say about the views of single images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from skimage.transform import resize

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.cli.infer import main as infer_main
from nuclei_runtime.readers.plane import Selection
from nuclei_runtime.runs import same_view
from nuclei_runtime.runs.remote_inputs import find_remote_images
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.remote_files import RemoteFiles

RunMain = Callable[..., tuple[int, str, str]]


def save(path: Path, times: int) -> None:
    """Save nuclei `times` as large as in training, on at most 384 x 360 pixels."""
    image, _ = fluorescence_field(7, height=384 // times, width=360 // times, n_nuclei=150 // times**2)
    shape = [times * length for length in image.shape]
    Image.fromarray(np.rint(resize(image / 255, shape, order=1) * 255).astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of large nuclei, one of nuclei as in training, and a broken one."""
    images = tmp_path / "in"
    images.mkdir()
    for name in "abc":
        save(images / f"{name}.png", 6)
    save(images / "small.png", 1)
    (images / "broken.png").write_bytes(b"no image")
    return images


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "images.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_each_image_has_its_own_view_unless_all_are_to_have_one(
    folder: Path, tmp_path: Path, run_main: RunMain
) -> None:
    assert run_main(infer_main, folder, "--out", tmp_path / "each")[0] == 1  # one is broken
    each = table(tmp_path / "each")
    assert float(each["a.png"]["scale"]) < 1
    assert float(each["small.png"]["scale"]) == 1
    assert 15 < float(each["small.png"]["estimated_diameter_px"]) < 26
    assert 90 < float(each["a.png"]["estimated_diameter_px"]) < 150
    assert 0.5 < float(each["a.png"]["expected_ap"]) <= 1
    assert each["a.png"]["stain"] == "rgb"
    assert (each["broken.png"]["scale"], each["broken.png"]["expected_ap"]) == ("", "")

    code, _, printed = run_main(infer_main, folder, "--out", tmp_path / "same", "--same-view")
    assert code == 1
    view = printed.partition("--view ")[2].split()[0]
    method = json.loads((tmp_path / "same/provenance.json").read_text(encoding="utf-8"))["method"]
    assert f"{method['scale']},{method['stain']}" == view
    assert len({row["scale"] for row in table(tmp_path / "same").values() if row["status"] == "ok"}) == 1
    again = run_main(infer_main, folder, "--out", tmp_path / "same", "--resume", "--view", view)[2]
    assert again.count("segmented again") == 1  # the broken one


def test_either_all_images_of_one_view_are_averaged_or_none(tmp_path: Path, run_main: RunMain) -> None:
    (tmp_path / "in").mkdir()
    for name, times in {"a": 1, "b": 1, "large": 2}.items():
        save(tmp_path / f"in/{name}.png", times)
    tta = {}
    for options in (("--tta",), ("--tta", "--same-view")):
        out = tmp_path / str(len(options))
        code, _, printed = run_main(infer_main, tmp_path / "in", "--out", out, *options)
        assert code == 0
        tta[options] = [row["tta"] for row in table(out).values()]
    assert tta["--tta",] == ["true", "true", "false"]
    assert tta["--tta", "--same-view"] == ["true"] * 3
    assert printed.partition("--view ")[2].split()[0] == "1/1,rgb,tta"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--same-view", "--watch"), "--same-view looks at images of the whole run"),
        (("--same-view", "--shard", "1/2"), "--same-view looks at images of the whole run"),
        (("--view", "as-is", "--diameter", "30"), "--view fixes the scale and the stain"),
        (("--view", "as-is", "--same-view"), "--view fixes the scale and the stain"),
        (("--view", "half"), "view 'half': expected as-is, or a scale and a stain such as 1/2,he"),
        (("--stain", "pas"), "found 'pas', expected one of rgb, he, hdab"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    options: tuple[str, ...], reason: str, tmp_path: Path, run_main: RunMain
) -> None:
    (tmp_path / "in").mkdir()
    code, _, printed = run_main(infer_main, tmp_path / "in", "--out", tmp_path / "out", *options)
    assert code == 2
    assert reason in " ".join(printed.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_images_in_a_store_are_fetched_once_and_one_that_cannot_be_is_left_out_of_all_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    store = RemoteFolder(f"memory://{uuid4().hex}")
    rng = np.random.default_rng(5)
    for name in "abc":  # noise: the network looks at it in several views
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), np.uint8)).save(tmp_path / f"{name}.png")
        store.put(tmp_path / f"{name}.png", f"{name}.png")
    fetched: list[str] = []
    looks: list[int] = []
    fetch, choose_by_parts = RemoteFiles.fetch, same_view.look_at

    def fetch_but_one(self: RemoteFiles, target: Path) -> None:
        fetched.append(self.sizes[0][0])
        if fetched[-1] == "b.png" and fetched.count("b.png") == 1:  # it would be there the next time
            raise PermissionError(13, "access is denied")
        fetch(self, target)

    def look_at(parts: list[Any]) -> Any:
        looks.append(len(parts))
        return choose_by_parts(parts)

    monkeypatch.setattr(RemoteFiles, "fetch", fetch_but_one)
    monkeypatch.setattr(same_view, "look_at", look_at)
    files = find_remote_images([store.url], out=tmp_path / "out").files
    notes: list[str] = []
    with Segmenter.from_options(SegmenterOptions()) as segmenter:
        same_view.common_view(files, segmenter.network, Selection(), None, notes.append)
    assert fetched == ["a.png", "b.png", "c.png"]
    assert len(looks) > 1
    assert set(looks) == {2}
    assert notes == ["b.png: the view was chosen without it: cannot be read: access is denied"]
