"""Lets the tests of training avoid TensorFlow's compiler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def eager() -> Iterator[None]:
    """Run TensorFlow operation by operation: tracing the U-Net takes longer than a few steps of a small training.

    The same kernels run either way. Tests that use the installed commands train with compiled functions.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
