"""Which results of an image differ from its record: those that are damaged, and those that somebody has changed.

A label image in the results folder is what a person corrects. The difference matters, because what is damaged is made
again, and what somebody has changed must not be lost. In doubt, a result was changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nuclei_runtime.faults import is_of_machine, machine_error
from nuclei_runtime.results.damage import is_damaged
from nuclei_runtime.results.layout import leads_out
from nuclei_runtime.results.mirror import mirrored
from nuclei_runtime.results.records import Record, digest_file
from nuclei_runtime.stores.remote import RemoteFolder


@dataclass(frozen=True)
class Differing:
    """Results that are not what was recorded, by their paths relative to the results folder.

    Attributes
    ----------
    damaged : tuple of str
        Missing, or damaged as `nuclei_runtime.results.damage` tells.
    changed : tuple of str
        All others; also links that lead elsewhere, and what cannot be read now.
    """

    damaged: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def differing_results(out: Path | RemoteFolder, record: Record) -> Differing:
    """Compare the results of an image with its record. Those that a URL names are fetched for it, one image at a time.

    Raises
    ------
    RuntimeEnvironmentError
        The store cannot be read, or the machine is at fault.
    """
    with mirrored(out, record.results) as folder:
        return _differing(folder, record)


def _differing(out: Path, record: Record) -> Differing:
    damaged: list[str] = []
    changed: list[str] = []
    for target, sha256 in record.results.items():
        path = out / target
        try:
            if leads_out(out, path):  # somebody put it there; it is not followed
                changed.append(target)
            elif digest_file(path).sha256 != sha256:
                (damaged if is_damaged(path) else changed).append(target)
        except (FileNotFoundError, NotADirectoryError):
            damaged.append(target)
        except OSError as error:
            if is_of_machine(error):
                raise machine_error(error, f"{path}: cannot be read") from error
            changed.append(target)
    return Differing(tuple(damaged), tuple(changed))
