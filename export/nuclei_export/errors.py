"""Every error that the export raises on purpose.

As in `nuclei_runtime.errors`, each class is also a subclass of the matching builtin, and has an exit code.

    NucleiError
    ├── EvaluationFileError (ValueError)   not the evaluation.json of the model that is exported
    ├── PackageError (ValueError)          a model that bioimage.io cannot describe, or a package that it refuses
    ├── RunFolderError (ValueError)        a run folder that cannot be exported
    └── ParityError (ArithmeticError)      ONNX Runtime and Keras disagree beyond the tolerance
"""

from typing import ClassVar

from nuclei_runtime.errors import NucleiError


class EvaluationFileError(NucleiError, ValueError):
    """The file of scores is not one that nuclei-evaluate wrote for the model that is exported."""


class PackageError(NucleiError, ValueError):
    """The model cannot become a package that bioimage.io accepts."""


class RunFolderError(NucleiError, ValueError):
    """The run folder does not contain what an export needs."""


class ParityError(NucleiError, ArithmeticError):
    """ONNX Runtime and Keras disagree by more than the declared tolerance."""

    exit_code: ClassVar[int] = 3
