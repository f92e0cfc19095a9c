"""Every error that training and evaluation raise on purpose.

As in `nuclei_runtime.errors`, each class is also a subclass of the matching builtin, and has an exit code.

    NucleiError
    ├── DatasetError (ValueError)         training or truth data in an unknown form
    │   └── ArchiveError (OSError)        a damaged or unsafe zip
    ├── DivergedError (ArithmeticError)   a training whose loss is no longer a number
    └── RunFolderError (ValueError)       a run folder that cannot be started or resumed
"""

from nuclei_runtime.errors import NucleiError


class DatasetError(NucleiError, ValueError):
    """Training or truth data are not in a known form."""


class ArchiveError(DatasetError, OSError):
    """A zip is damaged or would write outside its target."""


class DivergedError(NucleiError, ArithmeticError):
    """The loss of a training is infinite or not a number: its weights are lost, and no further epoch mends them."""


class RunFolderError(NucleiError, ValueError):
    """A run folder is not in the state that the command needs."""
