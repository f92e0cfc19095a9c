"""Folders in stores: what is asked of them, and what their errors say."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from nuclei_runtime.errors import InputsError, MissingExtraError, RuntimeEnvironmentError
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.remote_files import RemoteFiles

pytest.importorskip("fsspec")


def exercise(folder: RemoteFolder, tmp_path: Path) -> None:
    assert folder.files() == {}
    assert folder.entries() == ({}, [])
    assert folder.kind() is None
    beside = RemoteFolder(f"{folder.url}2")
    beside.write("x", b"of another folder whose name begins alike")
    folder.write("a/b 1/c.txt", b"12345")
    folder.write("d.txt", b"6")
    (tmp_path / "source").write_bytes(b"789")
    folder.put(tmp_path / "source", "a/e#~é.txt")
    assert folder.files() == {"a/b 1/c.txt": 5, "a/e#~é.txt": 3, "d.txt": 1}
    assert folder.files("a/b 1") == folder.files("a/b 1/c.txt") == {"a/b 1/c.txt": 5}
    assert folder.files("a/b") == folder.files("never") == {}
    assert folder.entries() == ({"d.txt": 1}, ["a"])
    assert [folder.kind(name) for name in ("d.txt", "a", "", "never")] == ["file", "directory", "directory", None]
    assert folder.read("a/e#~é.txt") == b"789"
    assert folder.read_starts(["a/b 1/c.txt", "d.txt", "never"], 2) == {
        "a/b 1/c.txt": b"12",
        "d.txt": b"6",
        "never": b"",
    }
    RemoteFiles(folder, (("a/", None), ("d.txt", 1))).fetch(tmp_path)
    assert (tmp_path / "a/b 1/c.txt").read_bytes() == b"12345"
    assert (tmp_path / "d.txt").read_bytes() == b"6"
    with pytest.raises(FileNotFoundError, match="there is no such object"):
        folder.fetch({"never": None}, tmp_path)
    with pytest.raises(FileNotFoundError):
        folder.read("never")
    with pytest.raises(OSError, match="has 1 bytes instead of 7"):
        folder.fetch({"d.txt": 7}, tmp_path)
    with pytest.raises(FileExistsError):
        folder.write("d.txt", b"8", is_new=True)
    folder.write("d.txt", b"8")
    folder.write("new.txt", b"9", is_new=True)
    folder.remove(["d.txt", "new.txt", "never"])
    assert set(folder.files()) == {"a/b 1/c.txt", "a/e#~é.txt"}
    folder.remove(folder.files())
    beside.remove(["x"])


@pytest.mark.parametrize("kind", ["memory", "file", "s3"])
def test_every_store_does_the_same(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nuclei_runtime.stores.remote._PAUSE_S", 0.0)
    if kind == "s3":
        request.getfixturevalue("s3")
    url = {"memory": "memory://test", "file": f"{tmp_path.as_uri()}/store", "s3": "s3://lab/test"}[kind]
    exercise(RemoteFolder(url), tmp_path)


def test_errors_of_a_store_have_a_number_and_say_what_to_do(s3: Any, tmp_path: Path) -> None:
    folder = RemoteFolder("s3://lab/test")
    folder.write("a.txt", b"1")
    with pytest.raises(FileNotFoundError, match="there is no such object, bucket or file"):
        RemoteFolder("s3://another-bucket/test").write("a.txt", b"1")
    s3.fail("403 Forbidden", code="AccessDenied")
    asked = [folder.files, folder.entries, lambda: folder.kind("a.txt"), lambda: folder.read("a.txt")]
    for ask in (*asked, lambda: folder.write("a.txt", b"1"), lambda: folder.fetch({"a.txt": 1}, tmp_path)):
        with pytest.raises(PermissionError, match=r"check the credentials .* AWS_SECRET_ACCESS_KEY") as denied:
            ask()
        assert denied.value.errno == errno.EACCES
        assert str(denied.value.filename).startswith(folder.url)


def test_an_answer_that_is_cut_off_is_not_taken_for_the_file(s3: Any, tmp_path: Path) -> None:
    folder = RemoteFolder("s3://lab/test")
    folder.write("a.txt", b"1234567890")
    cut = []

    def cut_off(environ: dict[str, Any], start: Any) -> Any:
        if environ["REQUEST_METHOD"] != "GET" or len(cut) == 1:
            return None
        cut.append(1)
        start("200 OK", [("Content-Length", "5"), ("ETag", '"1"')])
        return [b"12345"]

    s3.answers.append(cut_off)
    folder.fetch({"a.txt": 10}, tmp_path)
    assert (tmp_path / "a.txt").read_bytes() == b"1234567890"
    assert cut == [1]


def test_what_is_not_there_or_not_installed() -> None:
    with pytest.raises(InputsError, match="nosuch://x: fsspec cannot open it: Protocol not known: nosuch"):
        RemoteFolder("nosuch://x").files()


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(protocol: str) -> None:
        raise ImportError(f"Install the package for {protocol}")

    monkeypatch.setattr(fsspec.core, "get_filesystem_class", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "nuclei-edge\[s3\]"'):
        RemoteFolder("s3://x").files()
    with pytest.raises(RuntimeEnvironmentError, match="gs://x: Install the package for gs"):
        RemoteFolder("gs://x").files()


def test_an_image_larger_than_the_disk_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    image = RemoteFiles(RemoteFolder("memory://x"), (("a.tif", 2**60),))
    with pytest.raises(OSError, match=r"takes 1073741824\.00 GiB of disk .* choose another folder in TMPDIR"):
        image.fetch(tmp_path)


def test_a_message_holds_no_secret_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    def fail(system: Any, *_: Any, **__: Any) -> None:
        raise ValueError(f"cannot sign in with {system.storage_options}")

    options = {"key": "AKIAEXAMPLE", "client_kwargs": {"aws_secret_access_key": "topsecret"}, "endpoint": "http://here"}
    monkeypatch.setitem(fsspec.config.conf, "memory", options)
    monkeypatch.setattr(MemoryFileSystem, "find", fail)
    with pytest.raises(OSError, match=r"cannot sign in with .*http://here") as failed:
        RemoteFolder("memory://x").files()
    assert "AKIAEXAMPLE" not in str(failed.value)
    assert "topsecret" not in str(failed.value)
