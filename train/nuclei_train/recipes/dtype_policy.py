"""Which numbers a network computes with while it learns."""

from __future__ import annotations

from pathlib import Path

SINGLE = "float32"
HALF = "mixed_bfloat16"
"""Keras's names. In half precision the weights stay in float32 and the convolutions compute in bfloat16: a step of
`native` takes four fifths of the time on a Zen 4 processor, which has instructions for it, and eleven times as long on
a Zen 3, which has none and converts each number there and back."""

INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16"})
"""What Linux calls them on x86 processors."""

CPUINFO = Path("/proc/cpuinfo")


def training_policy() -> str:
    """Return `HALF` on a GPU or a processor with instructions for bfloat16, and `SINGLE` where there are none known."""
    import keras

    # Asked for GPUs, JAX raises where there is none; asked for nothing, it names them before processors.
    has_gpu = any(device.startswith("gpu") for device in keras.distribution.list_devices())
    return HALF if has_gpu or INSTRUCTIONS & processor_flags(CPUINFO) else SINGLE


def processor_flags(cpuinfo: Path) -> frozenset[str]:
    """Return the features of the first processor in Linux's list; none where there is no such list."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
