"""The files of an image on this machine, those with its labels, and their digests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.faults import image_failure, reading_error
from nuclei_runtime.readers.formats import format_in_folder, format_of_folder
from nuclei_runtime.results.records import FileDigest, digest_file, digest_parts, digest_tree, digest_with
from nuclei_runtime.results.writing import KEPT
from nuclei_runtime.runs.given import AnyWorker
from nuclei_runtime.runs.inputs import ImageFile
from nuclei_runtime.runs.remote_inputs import fetched


@contextmanager
def keeping_results() -> Iterator[None]:
    """Add to an error of the machine, while an image is read, that earlier results are kept."""
    try:
        yield
    except RuntimeEnvironmentError as error:
        raise RuntimeEnvironmentError(f"{error}; {KEPT}") from error


@contextmanager
def at_hand(file: ImageFile) -> Iterator[tuple[ImageFile, FileDigest | str]]:
    """Yield an image with its files on this machine, and its digest, or why it cannot be read.

    Raises
    ------
    RuntimeEnvironmentError
        The machine is at fault.
    """
    with ExitStack() as scratch:
        version: str | None = None
        try:
            local = scratch.enter_context(fetched(file))
            if file.origin is not None and not file.origin.has_changed():  # nobody replaced it meanwhile
                version = file.origin.version
        except OSError as error:
            with keeping_results():
                reason = image_failure(reading_error(error))
            yield file, reason
            return
        source = digest_source(local)
        yield local, source if isinstance(source, str) else replace(source, version=version)


def digest_source(file: ImageFile) -> FileDigest | str:
    """Return the digest of the file, or why it cannot be read.

    Raises
    ------
    RuntimeEnvironmentError
        The machine is at fault.
    """
    try:
        file.name.encode()
    except UnicodeEncodeError:
        return "the file name is not text in the encoding of this system; rename the file"
    try:
        if file.field is not None:
            return digest_parts(file.parts, file.field.described)
        is_folder = file.path.is_dir()
        form = format_of_folder(file.path) if is_folder else format_in_folder(file.path)
        if form is not None and form.obstacle is not None:  # its gigabytes would be read for nothing
            return form.obstacle
        if is_folder and form is not None:
            form.fields(file.path)  # so would those of a plate whose index is damaged
        if is_folder:
            return digest_tree(file.path)
        return digest_file(file.path) if len(file.parts) == 1 else digest_with(*file.parts)
    except Exception as error:
        with keeping_results():
            return image_failure(reading_error(error))


def digest_labels(file: ImageFile, worker: AnyWorker) -> dict[str, str] | str:
    """Return the digests of the files with the labels of an image, or why one of them cannot be read.

    Raises
    ------
    RuntimeEnvironmentError
        The machine is at fault.
    """
    try:
        return worker.label_digests(file)
    except OSError as error:
        name = f"{error.filename or 'the labels'}: "
        with keeping_results():
            return name + image_failure(reading_error(error))
