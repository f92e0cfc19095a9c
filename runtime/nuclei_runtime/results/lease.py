"""Keeps two runs from using a results folder in an object store, which has no locks that end with their process.

A run writes a lease, a small object, and renews it while it lives. Another run that finds a lease watches it: if it is
renewed, that run is alive; if it stays the same for `STALE_S`, its run was killed, and the lease is taken over. No
clock is compared with another. A run that loses its lease, for example because it was cut off from the network for so
long, notices when it places its next results, and ends.

This is less than a lock: a run that was taken for dead may still place the results of one image while another run
does. Both then write the same bytes, if they have the same options.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread

from nuclei_runtime.errors import ResultsInUseError
from nuclei_runtime.results.shard import Shard
from nuclei_runtime.stores.remote import RemoteFolder

BEAT_S = 5.0
"""How often a lease is renewed."""

STALE_S = 30.0
"""How long a lease must stay the same until its run is taken for dead: several beats, of which some may be slow."""

_LOOK_S = 1.0


@dataclass(frozen=True)
class HeldLease:
    """A lease as its holder wrote it. It can be pickled, so that worker processes can check it too.

    Attributes
    ----------
    folder : RemoteFolder
    name : str
        Of the object.
    holder : str
        A random text.
    """

    folder: RemoteFolder
    name: str
    holder: str

    @property
    def is_in_place(self) -> bool:
        """Whether the lease is still held: not removed with its folder, and not taken over.

        Raises
        ------
        OSError
            The store cannot be asked.
        """
        try:
            return _holder(self.folder.read(self.name)) == self.holder
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Raise FileNotFoundError if the lease is not held any more."""
        if not self.is_in_place:
            raise FileNotFoundError(
                errno.ENOENT,
                "the results folder was emptied during the run, or another run has taken it over",
                str(self.folder),
            )


class Lease:
    """Keeps other living runs away from a shard of a results folder, until `release`.

    Parameters
    ----------
    folder : RemoteFolder
        The results folder.
    shard : Shard

    Attributes
    ----------
    held : HeldLease

    Raises
    ------
    ResultsInUseError
        Another run is using the shard.
    OSError
        The folder cannot be written to.
    """

    def __init__(self, folder: RemoteFolder, shard: Shard) -> None:
        self.held = HeldLease(folder, shard.lock_name, secrets.token_hex(16))
        self._beats, self._stop = 0, Event()
        self._thread = Thread(target=self._renew, name="lease", daemon=True)
        self._take()
        try:
            # After taking one's own: of two runs that start at once, at least one sees the other and gives way.
            for name in folder.entries()[0]:
                other = Shard.of_lock(name)
                if other is not None and other.count != shard.count:
                    _await_end(folder, name)
        except BaseException:
            self.release()
            raise
        self._thread.start()

    def release(self) -> None:
        """Remove the lease, unless another run has taken it over."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with suppress(OSError):
            if self.held.is_in_place:
                self.held.folder.remove([self.held.name])

    def _take(self) -> None:
        while True:
            try:
                self.held.folder.write(self.held.name, self._content(), is_new=True)
            except FileExistsError:
                if self.held.is_in_place:  # the answer to the first request was lost
                    return
                _await_end(self.held.folder, self.held.name)
            else:
                return

    def _renew(self) -> None:
        while not self._stop.wait(BEAT_S):
            with suppress(OSError):  # the next beat may reach the store
                if not self.held.is_in_place:
                    return
                self._beats += 1
                self.held.folder.write(self.held.name, self._content())

    def _content(self) -> bytes:
        about = {"holder": self.held.holder, "beats": self._beats, "host": platform.node(), "process": os.getpid()}
        return json.dumps(about).encode()


def _await_end(folder: RemoteFolder, name: str) -> None:
    """Return when the lease of a dead run is removed.

    Raises
    ------
    ResultsInUseError
        Its run is alive.
    """
    first: bytes | None = None
    until = time.monotonic() + STALE_S
    while True:
        try:
            found = folder.read(name)
        except FileNotFoundError:  # its run has just ended
            return
        first = first or found
        if found != first:
            raise ResultsInUseError(
                f"{folder}: another run is using this folder ({_described(found)}); wait until it ends, or name "
                "another folder"
            )
        if time.monotonic() >= until:
            folder.remove([name])
            return
        time.sleep(_LOOK_S)


def _holder(content: bytes) -> str | None:
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(content)["holder"])
    return None


def _described(content: bytes) -> str:
    with suppress(ValueError, TypeError, KeyError):
        about = json.loads(content)
        return f"process {about['process']} on {about['host']}"
    return "its lease is renewed"
