"""What is an image in a store: the same as on a disk, and no name of an object leads out of the scratch folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.results.records import FileDigest
from nuclei_runtime.runs.inputs import find_images
from nuclei_runtime.runs.remote_inputs import fetched, find_remote_images
from nuclei_runtime.runs.sources import at_hand
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.remote_files import RemoteFiles

pytest.importorskip("fsspec")

PNG = b"\x89PNG\r\n\x1a\n"
OUT = Path("elsewhere")


@pytest.fixture
def store() -> Iterator[RemoteFolder]:
    folder = RemoteFolder(f"memory://{uuid4().hex}")
    yield folder
    folder.remove(folder.files())


def names(store: RemoteFolder, *sources: str, out: Path | RemoteFolder = OUT) -> list[str]:
    return [file.name for file in find_remote_images([store.at(source) for source in sources], out=out).files]


def test_a_listing_is_searched_as_a_folder_is(store: RemoteFolder, tmp_path: Path) -> None:
    made = {
        "a.png": b"",
        "b.TIF": b"",
        "no_suffix": PNG,
        "text": b"plain",
        "x.txt": b"",
        "half.png.part": PNG,
        ".hidden.png": PNG,
        "c/a.png": b"",
        "c/.d/a.png": b"",
        "s.mrxs": b"",
        "s/Slidedat.ini": b"",
        "s/inner.png": b"",  # belongs to the slide
        "e.zarr/.zgroup": b"{}",
        "e.zarr/0/0.0": PNG,
        "f.ims": b"",  # known, but not read
        "r/labels/a.tif": b"",  # results of an earlier run
        "r/provenance.json": b"{}",
        "own/labels/a.tif": b"",  # of this run
    }
    for name, content in made.items():
        store.write(f"in/{name}", content)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for source in ("", "c", "[a-c]*", "*/*.png", "a.png", "s.mrxs", "e.zarr"):
        local = find_images([tmp_path / source], out=tmp_path / "own")
        remote = find_remote_images([store.at(f"in/{source}".rstrip("/"))], out=store.folder("in/own"))
        assert [(file.name, file.stem) for file in remote.files] == [(file.name, file.stem) for file in local.files]
        assert (remote.n_skipped, remote.unreadable) == (local.n_skipped, local.unreadable)
    (slide,) = find_remote_images([store.at("in/s.mrxs")], out=OUT).files
    with fetched(slide) as local_slide:
        parts = [sorted(path.name for path in part.rglob("*")) for part in local_slide.parts]
        assert parts == [[], ["Slidedat.ini", "inner.png"]]
        path = local_slide.path
    assert not path.exists()


def test_names_are_relative_to_the_deepest_common_folder(store: RemoteFolder) -> None:
    for name in ("day 1/plate/a.png", "day 1/plate/b.png", "day 1/other/a.png", "day 2/a.png"):
        store.write(name, b"")
    assert names(store, "day 1") == ["other/a.png", "plate/a.png", "plate/b.png"]
    assert names(store, "day 1/plate/*.png") == ["a.png", "b.png"]
    assert names(store, "day 1/plate", "day 1/other/a.png") == ["other/a.png", "plate/a.png", "plate/b.png"]
    inputs = find_remote_images([store.at("day 1/plate/"), store.at("day 2")], out=OUT)
    assert inputs.root == store
    assert [file.name for file in inputs.files] == ["day 1/plate/a.png", "day 1/plate/b.png", "day 2/a.png"]
    store.write("x/notes.txt", b"text")
    with pytest.raises(InputsError, match=f"{store}/x: no image found; looked for"):
        names(store, "x")


def test_a_plate_without_fields_is_named_by_its_url(store: RemoteFolder) -> None:
    store.write("in/a.png", b"")
    store.write("in/p.zarr/.zattrs", b'{"plate": {"wells": []}}')
    (note,) = find_remote_images([store.at("in")], out=OUT).unreadable
    assert note.startswith(f"{store.at('in/p.zarr')}: the index of the plate names no field")


@pytest.mark.usefixtures("s3")
def test_the_version_of_a_field_covers_what_the_index_of_its_plate_says(plates: Any, tmp_path: Path) -> None:
    plates.harmony(tmp_path / "P", [(1, 1, 1, 0, 1, 1), (1, 1, 2, 0, 1, 1)])
    store = RemoteFolder("s3://lab/P")
    for path in tmp_path.glob("P/**/*.*"):
        store.put(path, path.relative_to(tmp_path / "P").as_posix())

    def versions() -> list[str | None]:
        found = []
        for file in find_remote_images([store.url], out=OUT).files:
            with at_hand(file) as (_, source):
                assert isinstance(source, FileDigest)
                assert file.origin is not None
                assert source.version == file.origin.version
            found.append(source.version)
        return found

    first = versions()
    assert None not in first
    assert versions() == first
    (index,) = (name for name in store.files() if name.endswith("Index.idx.xml"))
    written = store.read(index)
    corrected = written.replace(b"E-07", b"E-06")
    assert corrected != written
    store.write(index, corrected)
    assert not set(versions()) & set(first)


@pytest.mark.usefixtures("s3")
def test_objects_whose_names_no_file_can_have_are_named_and_left_out(tmp_path: Path) -> None:
    import s3fs

    system = s3fs.S3FileSystem()
    for key in ("a.png", "b//c.png", "d/../../e.png", "./f.png", "g" * 300 + ".png", "h.png", "h.png/i.png", "j/", "k"):
        system.call_s3("put_object", Bucket="lab", Key=f"in/{key}", Body=b"" if key in ("j/", "k") else b"1")
    system.call_s3("put_object", Bucket="lab", Key="in/k/l.png", Body=b"")
    inputs = find_remote_images(["s3://lab/in"], out=OUT)
    assert [file.name for file in inputs.files] == ["a.png", "h.png/i.png", "k/l.png"]
    refused = [note.removeprefix("s3://lab/in/").partition(": has a name")[0] for note in inputs.unreadable]
    with pytest.raises(OSError, match="has a name that is not valid for a file"):
        RemoteFiles(RemoteFolder("s3://lab/in"), (("d/", None),)).fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert refused == ["./f.png", "b//c.png", "d/../../e.png", "g" * 300 + ".png", "h.png"]
