"""What the tests of training share: a reporter that can be asked, and training without TensorFlow's compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from nuclei_train.fitting.reporter import Reporter


@dataclass
class Listener(Reporter):
    """Keeps what a training says, and how many images it has loaded."""

    sentences: list[str] = field(default_factory=list)
    total: int = 0
    loaded: int = 0

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    @contextmanager
    def loading(self, total: int) -> Iterator[Callable[[], None]]:
        self.total = total
        yield self._advance

    def _advance(self) -> None:
        self.loaded += 1


@pytest.fixture(scope="module")
def eager() -> Iterator[None]:
    """Run TensorFlow operation by operation: tracing the U-Net takes longer than a few steps of a small training.

    The same kernels run either way. Tests that use the installed commands train with compiled functions.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
