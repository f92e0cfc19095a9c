"""Makes a training give the same numbers each time."""

from __future__ import annotations

import keras


def make_deterministic(seed: int) -> None:
    """Seed everything random, and fix the order of summation.

    Without the latter, a training that is resumed would not equal one that was not interrupted.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
