"""The record of an image file, which is stored with its results and shows whether they are complete."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.results.layout import is_inside, record_name, record_path, recorded_tokens, token_of
from nuclei_runtime.results.mirror import reading
from nuclei_runtime.results.outcome import PlaneOutcome
from nuclei_runtime.stores.remote import RemoteFolder

RECORD_FORMAT = 1
"""Changes when an older version would misread a record; a new field alone does not change it."""


@dataclass(frozen=True)
class FileDigest:
    """The digest of a file's content.

    Attributes
    ----------
    sha256 : str
        64 hexadecimal digits.
    size : int
        In bytes.
    version : str, optional
        What the store that it came from tells of its version; see `nuclei_runtime.stores.remote_files.RemoteFiles`.
        The same content may have several.
    """

    sha256: str
    size: int
    version: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Record:
    """The outcome of an image file.

    Attributes
    ----------
    image, stem : str
        Name and stem of `nuclei_runtime.runs.inputs.ImageFile`.
    run_key : str
        See `nuclei_runtime.results.provenance.run_key`.
    source : FileDigest, optional
        Of the image file; None if it could not be read.
    planes : tuple of PlaneOutcome
        By scene, then time, then Z.
    results : dict
        The SHA-256 of each result, by its path relative to the results folder.
    labels_from : dict
        The SHA-256 of each file that gave the labels, or those before a correction; empty if a model found them.
    kept_in : str, optional
        The run key of the last run if it kept these results instead of making its own, because the image failed or
        because somebody has changed a result.
    """

    image: str
    stem: str
    run_key: str
    source: FileDigest | None
    planes: tuple[PlaneOutcome, ...]
    results: dict[str, str]
    labels_from: dict[str, str] = field(default_factory=dict)
    kept_in: str | None = None

    def is_tried(self, run_key: str) -> bool:
        """Whether a run with this key is done with the image."""
        return run_key in (self.run_key, self.kept_in)

    @property
    def is_ok(self) -> bool:
        """Whether no plane failed."""
        return all(plane.status == "ok" for plane in self.planes)

    def to_json(self) -> str:
        """Return the record as it is stored; a name that is not text is escaped."""
        document = {"format": RECORD_FORMAT, **asdict(self)}
        if self.source is not None and self.source.version is None:
            del document["source"]["version"]
        return json.dumps(document, indent=1) + "\n"


_Stored = TypeVar("_Stored", FileDigest, PlaneOutcome)


def read_record(path: Path) -> Record | None:
    """Read a record; None if it is damaged.

    Raises
    ------
    FileNotFoundError
        There is none.
    ResultsExistError
        It has a format that this version does not know.
    """
    return parse_record(path.read_bytes(), str(path))


def parse_record(content: bytes, name: str) -> Record | None:
    """Return the record that a file of this name contains; None if it is damaged.

    Records may gain fields. One that is missing, because an older version wrote the record, is None; one that is
    unknown, because a newer version did, is left out. A record that cannot be read in this way has another
    `RECORD_FORMAT`.

    Raises
    ------
    ResultsExistError
        It has a format that this version does not know.
    """
    try:
        document: dict[str, Any] = json.loads(content.decode(errors="replace"))
        found_format = document["format"]
        if not isinstance(found_format, int):
            return None
        if found_format != RECORD_FORMAT:
            raise ResultsExistError(
                f"{name}: is a record of format {found_format}, and this version of nuclei-edge reads format "
                f"{RECORD_FORMAT}; use the version that wrote these results, or choose another folder"
            )
        source = document["source"]
        record = Record(
            image=document["image"],
            stem=document["stem"],
            run_key=document["run_key"],
            source=None if source is None else _known_fields(FileDigest, source),
            planes=tuple(_known_fields(PlaneOutcome, plane) for plane in document["planes"]),
            results=document["results"],
            labels_from=dict(document.get("labels_from", {})),
            kept_in=document.get("kept_in"),
        )
        texts = [record.image, record.stem, record.run_key, *record.results.values()]
        sound = bool(record.planes) and all(isinstance(value, str) for value in texts)
        return record if sound and all(map(is_inside, record.results)) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _known_fields(kind: type[_Stored], document: dict[str, Any]) -> _Stored:
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in document.items() if name in names})


def digest_file(path: str | os.PathLike[str]) -> FileDigest:
    """Return the digest of a file, which is read in pieces."""
    with Path(path).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(sha256, file.tell())


def digest_tree(folder: Path) -> FileDigest:
    """Return the digest of an image that is a folder: that of the sorted names and digests of its files."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    digests = [digest_file(folder / name) for name in names]
    listing = "".join(f"{digest.sha256} {name}\0" for name, digest in zip(names, digests, strict=True))
    sha256 = hashlib.sha256(listing.encode("utf-8", "surrogatepass")).hexdigest()
    return FileDigest(sha256, sum(digest.size for digest in digests))


def digest_with(path: Path, companion: Path) -> FileDigest:
    """Return the digest of an image whose pixels lie in a folder beside it: that of both digests."""
    parts = digest_file(path), digest_tree(companion)
    sha256 = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
    return FileDigest(sha256, sum(part.size for part in parts))


def digest_parts(parts: Iterable[Path], described: str) -> FileDigest:
    """Return the digest of an image of several files, some of which may be missing, and of what an index says of it."""
    digests = [
        digest_tree(part) if part.is_dir() else digest_file(part) if part.exists() else FileDigest("missing", 0)
        for part in parts
    ]
    listing = "\0".join([described, *(digest.sha256 for digest in digests)])
    sha256 = hashlib.sha256(listing.encode("utf-8", "surrogatepass")).hexdigest()
    return FileDigest(sha256, sum(digest.size for digest in digests))


def record_of(out: Path | RemoteFolder, name: str) -> Record | None:
    """Read the record of an image; None if it is damaged.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    return record_of_token(out, token_of(name))


def record_of_token(out: Path | RemoteFolder, token: str) -> Record | None:
    """Read the record of the image with this token; None if it is damaged.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    if isinstance(out, Path):
        return read_record(record_path(out, token))
    name = record_name(token)
    with reading(out):
        return parse_record(out.read(name), out.at(name))


def with_recorded(out: Path, names: Iterable[str]) -> list[str]:
    """Add to the names of images those of all images that have a record, sorted by folder and name.

    An image that is removed, or is not named again, keeps its rows.
    """
    all_names = list(names)
    tokens = set(map(token_of, all_names))
    for token in recorded_tokens(out):
        if token in tokens:
            continue
        with suppress(FileNotFoundError):  # another shard has just removed it
            record = read_record(record_path(out, token))
            all_names += [] if record is None else [record.image]
    return sorted(all_names, key=lambda name: PurePosixPath(name).parts)
