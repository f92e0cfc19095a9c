"""Every error that training and evaluation raise on purpose.

As in `nuclei_runtime.errors`, each class is also the builtin that it is, and bears the exit code of a command.

    NucleiError
    ├── DatasetError (ValueError)         training or truth data whose form is not known
    │   └── ArchiveError (OSError)        a damaged or unsafe zip
    └── RunFolderError (ValueError)       a run folder that cannot be started or resumed
"""

from nuclei_runtime.errors import NucleiError


class DatasetError(NucleiError, ValueError):
    """Training or truth data are not in a form that is known."""


class ArchiveError(DatasetError, OSError):
    """A zip is damaged or would write outside its target."""


class RunFolderError(NucleiError, ValueError):
    """A run folder is not in the state that the command needs."""
