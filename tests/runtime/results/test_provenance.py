"""What provenance.json tells the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nuclei_runtime.results.provenance import differing_settings, methods_in, read_provenance

METHOD = {"scale": "1/1"}
WRITTEN = {"run_key": "b", "method": METHOD, "earlier_methods": {"a": {"scale": "1/2"}}}


def written(folder: Path, text: str) -> Path:
    path = folder / "provenance.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_methods_of_all_runs_are_known(tmp_path: Path) -> None:
    found = read_provenance(written(tmp_path, json.dumps(WRITTEN)))
    assert methods_in(found) == {"a": {"scale": "1/2"}, "b": METHOD}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '"method"', *(json.dumps({**WRITTEN, key: 5}) for key in WRITTEN), json.dumps({"method": METHOD})],
)
def test_a_damaged_file_tells_nothing(tmp_path: Path, text: str) -> None:
    assert methods_in(read_provenance(written(tmp_path, text))) == {}
    assert read_provenance(tmp_path / "missing.json") == {}


def test_long_lists_are_counted() -> None:
    before = {"other_views": [f"1/{n},rgb" for n in range(1, 18)], "folders": ["labels"]}
    now = {"other_views": ["1/2,rgb", "2/1,rgb"], "folders": []}
    assert list(differing_settings(before, now)) == [
        "other_views was 17 values and is 1/2,rgb, 2/1,rgb",
        "folders was labels and is none",
    ]
