"""Waits for results of a Dask cluster without standing still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Future


def when_here(future: Future, call: Callable[[Any, Exception | None], object]) -> None:
    """Call, once a result has come to this process, or will not come.

    Dask says that a task has finished before its result has come, and the process with the only copy may be killed in
    between. Then the result comes when the task has been computed again, which a task for that process alone never is:
    ``future.result()`` would stand still for as long.

    Parameters
    ----------
    future : Future
    call : callable
        Takes the result, and what was raised if there is none. It is called in the thread of Dask's client, so it must
        return at once.
    """

    async def fetch() -> None:
        result, error = None, None
        try:
            result = await future
        except Exception as raised:
            error = raised
        call(result, error)

    future.client.loop.add_callback(fetch)
