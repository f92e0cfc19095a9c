"""The numeric precision in which a network is trained."""

from __future__ import annotations

from pathlib import Path

SINGLE = "float32"
HALF = "mixed_bfloat16"
"""Keras's names of dtype policies. In half precision the weights stay in float32 and the convolutions compute in
bfloat16. On a Zen 4 processor, which has instructions for bfloat16, a step of `native` then takes four fifths of the
time; on a Zen 3, which has none and converts each number back and forth, it takes eleven times as long."""

INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16"})
"""Linux's names of the bfloat16 instructions of x86 processors."""

CPUINFO = Path("/proc/cpuinfo")


def training_policy() -> str:
    """Return `HALF` for a GPU or a processor known to have instructions for bfloat16, else `SINGLE`."""
    import keras

    # If asked for GPUs, JAX raises without one; if asked for any device, it lists GPUs before processors.
    has_gpu = any(device.startswith("gpu") for device in keras.distribution.list_devices())
    return HALF if has_gpu or INSTRUCTIONS & processor_flags(CPUINFO) else SINGLE


def processor_flags(cpuinfo: Path) -> frozenset[str]:
    """Return the features of the first processor that Linux lists; empty on other systems."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
