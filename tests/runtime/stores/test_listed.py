"""Versions of files as stores tell them: only what changes with the content counts."""

from __future__ import annotations

import pytest

from nuclei_runtime.stores.listed import Listed, version_of


@pytest.mark.parametrize(
    ("info", "version"),
    [
        ({"ETag": '"9b2cf535f27731c974343645a3985328"'}, '"9b2cf535f27731c974343645a3985328"'),
        ({"etag": "CNHq3+r5vPUCEAE="}, "CNHq3+r5vPUCEAE="),
        ({"ETag": 'W/"0815"'}, None),
        ({"ETag": ""}, None),
        ({"mtime": 1_700_000_000.0, "LastModified": "2026-01-01"}, None),
    ],
)
def test_a_version_is_a_strong_etag(info: dict[str, object], version: str | None) -> None:
    assert Listed.of({"size": 3, **info}) == Listed(3, version)


def test_the_version_of_files_depends_on_their_names_and_on_each_version() -> None:
    one, two = Listed(3, "a"), Listed(3, "b")
    known = version_of({"x": one, "y": two})
    assert known == version_of({"y": two, "x": one})
    others = [{"x": two, "y": one}, {"x": one}, {"x": one, "z": two}, {"x": one, "y": two, "z": one}]
    assert len({known, *map(version_of, others)}) == 5
    assert version_of({"x": one, "y": Listed(3, None)}) is None
    assert version_of({}) is None
