"""Tests whether this processor adds products of 8-bit numbers without overflow."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PROBE = Path(__file__).parents[1] / "models" / "int8_probe.onnx"
"""A convolution of 16 channels, all 255, with weights that are all 127, scaled so that the correct result is
`RIGHT_ANSWER`; `tests/runtime/model/test_int8_sums.py` generates it."""

RIGHT_ANSWER = 200


@cache
def are_exact(ort: Any) -> bool:
    """Run the probe with ONNX Runtime on the CPU.

    x86 processors without VNNI add two 8-bit products in 16 bits, which saturate at 32,767 (VPMADDUBSW of Intel), so
    the maps of an int8 model are silently wrong. ONNX Runtime has an exact mode for them
    (``session.x64quantprecision``), which on other processors takes twice the time for the same numbers.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    probe = ort.InferenceSession(PROBE.read_bytes(), options, providers=["CPUExecutionProvider"])
    (value,) = probe.get_inputs()
    (answer,) = probe.run(None, {value.name: np.full(value.shape, 255, np.uint8)})
    return bool((answer == RIGHT_ANSWER).all())
