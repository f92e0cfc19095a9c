"""Commands that need only the runtime: nuclei-infer, nuclei-demo, nuclei-doctor.

The docstrings are the help texts. Heavy imports stay inside the commands.
"""

from __future__ import annotations

from nuclei_runtime.commands import run_command
