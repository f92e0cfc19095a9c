"""Whether this processor adds up products of 8-bit numbers without overflow."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PROBE = Path(__file__).parents[1] / "models" / "int8_probe.onnx"
"""A convolution of 16 channels, all 255, by weights that are all 127, scaled so that the right answer is
`RIGHT_ANSWER`; `tests/runtime/test_int8_sums.py` makes it."""

RIGHT_ANSWER = 200


@cache
def are_exact(ort: Any) -> bool:
    """Try it with ONNX Runtime on the CPU.

    x86 processors without VNNI add two products of 8 bits in 16 bits, where they stop at 32,767 (Intel's VPMADDUBSW),
    and the maps of an int8 model come out wrong in silence. ONNX Runtime has an exact way for them
    (``session.x64quantprecision``), which elsewhere takes twice the time for the same numbers.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    probe = ort.InferenceSession(PROBE.read_bytes(), options, providers=["CPUExecutionProvider"])
    (value,) = probe.get_inputs()
    (answer,) = probe.run(None, {value.name: np.full(value.shape, 255, np.uint8)})
    return bool((answer == RIGHT_ANSWER).all())
