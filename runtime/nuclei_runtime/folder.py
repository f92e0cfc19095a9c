"""Many image files -> their results; an image that fails fails alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from nuclei_runtime.errors import ImageError, NucleiError
from nuclei_runtime.inputs import ImageFile
from nuclei_runtime.reading import Image, read_image
from nuclei_runtime.results import ResultWriter
from nuclei_runtime.segmenter import Segmentation, Segmenter
from nuclei_runtime.tables import Outcome


def segment_files(files: Iterable[ImageFile], segmenter: Segmenter, writer: ResultWriter) -> Iterator[Outcome]:
    """Read, segment and write images, and yield what became of each, in their order.

    At most `Segmenter.batch_size` images are held in memory.

    Raises
    ------
    RuntimeEnvironmentError
        Results cannot be written. What was written before stays.
    """
    remaining = iter(files)
    while batch := list(islice(remaining, segmenter.batch_size)):
        readings = [_read(file) for file in batch]
        segmented = iter(_segment(segmenter, [image for image in readings if not isinstance(image, str)]))
        for file, image in zip(batch, readings, strict=True):
            if isinstance(image, str):
                yield writer.fail(file, image)
                continue
            result = next(segmented)
            yield (writer.fail(file, result) if isinstance(result, str) else _write(writer, file, image, result))


def _read(file: ImageFile) -> Image | str:
    """Return the image or the reason why there is none."""
    try:
        file.name.encode()
    except UnicodeEncodeError:
        return "the file's name is not text in this system's encoding; rename it"
    try:
        return read_image(file.path)
    except Exception as error:
        return _reason(error)


def _segment(segmenter: Segmenter, images: Sequence[Image]) -> list[Segmentation | str]:
    """Return each image's nuclei or the reason why there are none."""
    try:
        return list(segmenter.segment_batch(images))
    except Exception as error:
        if len(images) == 1:
            return [_reason(error)]
    return [result for image in images for result in _segment(segmenter, [image])]


def _write(writer: ResultWriter, file: ImageFile, image: Image, result: Segmentation) -> Outcome:
    try:
        return writer.write(file, image, result.labels)
    except NucleiError:  # the folder's trouble, not the image's
        raise
    except Exception as error:
        return writer.fail(file, _reason(error))


def _reason(error: Exception) -> str:
    """Say what happened; what nobody foresaw bears its type."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory for this image"
    return f"{type(error).__name__}: {error}"
