"""Measure the network alone: provider x precision x batch x tile x threads."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.side_by_side import SideBySide
from nuclei_runtime.checks.bench import PROVIDERS, thread_counts
from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import CPU_PROVIDER, Session, available_providers, load_session
from nuclei_runtime.resources import cpu_count

BATCHES = (1, 4)
TILES_PX = (256, 512, 736)
"""A small image, a tile's core, and a tile with its halo."""


@cache
def session_of(provider: str, precision: str, threads: int) -> Session:
    return load_session(BUNDLED_MODELS[precision], provider=provider, threads=threads)


@pytest.mark.parametrize("threads", thread_counts())
@pytest.mark.parametrize("tile", TILES_PX)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("precision", BUNDLED_MODELS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_network(side_by_side: SideBySide, provider: str, precision: str, batch: int, tile: int, threads: int) -> None:
    if provider not in available_providers():
        pytest.skip("not in this ONNX Runtime")
    if provider != CPU_PROVIDER and threads != cpu_count():
        pytest.skip("this provider chooses its threads itself")
    try:
        session = session_of(provider, precision, threads)
    except RuntimeEnvironmentError as error:
        pytest.skip(str(error))
    images = np.random.default_rng(0).random((batch, tile, tile, 3), np.float32)
    try:
        session.run(images)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        pytest.skip(f"does not run it: {error}")
    side_by_side(lambda: session.run(images), megapixels=images[..., 0].size / 1e6)
