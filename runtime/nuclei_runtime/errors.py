"""Every error that the runtime raises on purpose.

Each class is also a subclass of the matching builtin, so code that does not know nuclei-edge can still catch it. A
message says what was found, what was expected and what to do. A command that ends with an error exits with the
`exit_code` of its class: 2 if the usage or the input is at fault, 3 if the model or the machine is, in which case the
same command may succeed elsewhere.

    NucleiError                                exit code 2
    ├── ImageError
    │   ├── ImageReadError (OSError)           the file cannot be decoded
    │   ├── ImageShapeError (ValueError)       not (H, W) or (H, W, 1 | 3 | 4)
    │   ├── ImageTooLargeError (MemoryError)   does not fit into the memory that may be used
    │   └── ImageValueError (ValueError)       NaN, infinite, or of a type that cannot hold intensities
    ├── SegmentationCancelledError             the caller's flag ended the segmentation before it was complete
    ├── ArgumentError (ValueError)             an option or argument of a type, unit or range that it cannot have
    ├── InputsError (ValueError)               what a command names is not there, or cannot be used
    ├── ResultsExistError (FileExistsError)    the output folder already contains results
    ├── ResultsInUseError (BlockingIOError)    another process is writing to the output folder
    ├── ModelError                             exit code 3
    │   ├── ModelNotFoundError (FileNotFoundError)
    │   ├── ModelDigestError (ValueError)      the file does not have the SHA-256 that was asked for
    │   ├── ModelFormatError (ValueError)      not ONNX, not safe to load, or not the graph that its card describes
    │   └── CardError (ValueError)             no model card, or one with problems: all are listed
    └── RuntimeEnvironmentError (RuntimeError) exit code 3
        ├── MissingExtraError (ImportError)    a package of an extra is not installed
        └── ProviderError                      the execution provider asked for is not the one obtained
"""

from __future__ import annotations

from typing import ClassVar

from nuclei_runtime.wording import counted


class NucleiError(Exception):
    """Base of all errors of nuclei-edge.

    Attributes
    ----------
    exit_code : int
        Exit code of a command that this error ends.
    """

    exit_code: ClassVar[int] = 2

    def __reduce__(self) -> str | tuple[object, ...]:
        """Pickle by the constructor.

        This is what exceptions do anyway. But Dask has tblib pickle them, and tblib makes those that only inherit this
        method without their constructor, which fails if a class is also a `MemoryError` or an `OSError`.
        """
        return super().__reduce__()


class ImageError(NucleiError):
    """An image cannot be segmented; other images are not affected."""


class ImageReadError(ImageError, OSError):
    """The file cannot be decoded as an image."""


class ImageShapeError(ImageError, ValueError):
    """The array or file is not a single grey or colour image."""


class ImageTooLargeError(ImageError, MemoryError):
    """Segmenting the image takes more memory than may be used."""


class ImageValueError(ImageError, ValueError):
    """The pixel values are not finite intensities."""


class SegmentationCancelledError(NucleiError):
    """The caller's flag ended the segmentation before it was complete."""


class ArgumentError(NucleiError, ValueError):
    """An option or argument is of a type, unit or range that it cannot have."""


class InputsError(NucleiError, ValueError):
    """What is named on the command line is not there, or cannot be used."""


class ResultsExistError(NucleiError, FileExistsError):
    """The output folder already contains results."""


class ResultsInUseError(NucleiError, BlockingIOError):
    """Another process is writing to the output folder."""


class ModelError(NucleiError):
    """The model cannot be used."""

    exit_code: ClassVar[int] = 3


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no file at the model's path."""


class ModelDigestError(ModelError, ValueError):
    """The model file does not have the SHA-256 that was asked for."""


class ModelFormatError(ModelError, ValueError):
    """The file is not an ONNX model, refers to other files, or is not the model that its card describes."""


class CardError(ModelError, ValueError):
    """The model card is missing or has problems.

    Attributes
    ----------
    source : str
        Where the card comes from.
    problems : tuple of str
        Each is ``location: what is wrong``.
    """

    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        self.source, self.problems = source, problems
        listed = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{source}: the model card has {counted(len(problems), 'problem')}:\n{listed}")

    def __reduce__(self) -> tuple[type[CardError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.source, self.problems)


class RuntimeEnvironmentError(NucleiError, RuntimeError):
    """The machine lacks something that is needed."""

    exit_code: ClassVar[int] = 3


class MissingExtraError(RuntimeEnvironmentError, ImportError):
    """A package of an optional extra is not installed.

    Attributes
    ----------
    package, extra : str
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f'{package} is not installed; install it with: pip install "nuclei-edge[{extra}]"')

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)


class ProviderError(RuntimeEnvironmentError):
    """The execution provider that was asked for is not available or did not load."""
