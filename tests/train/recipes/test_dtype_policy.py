"""The precision of a training depends on the instructions of the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from nuclei_train.recipes import dtype_policy
from nuclei_train.recipes.dtype_policy import HALF, SINGLE, processor_flags, training_policy

ZEN_3 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu\n"
ZEN_4 = ZEN_3.replace("avx2 fma", "avx2 avx512f avx512_bf16 fma")


def test_the_flags_are_those_of_the_first_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(ZEN_3, encoding="utf-8")
    assert processor_flags(tmp_path / "cpuinfo") == {"fpu", "sse2", "avx2", "fma"}


def test_there_are_none_where_nothing_lists_them(tmp_path: Path) -> None:
    """Windows and macOS have no such file; the list of an ARM processor has no line of this name."""
    assert processor_flags(tmp_path / "cpuinfo") == frozenset()
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n", encoding="utf-8")
    assert processor_flags(tmp_path / "cpuinfo") == frozenset()


@pytest.mark.parametrize(
    ("cpuinfo", "devices", "policy"),
    [(ZEN_3, ["cpu:0"], SINGLE), (ZEN_4, ["cpu:0"], HALF), (ZEN_3, ["gpu:0"], HALF)],
)
def test_half_precision_is_used_where_it_is_fast(
    cpuinfo: str, devices: list[str], policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    (tmp_path / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: devices)
    monkeypatch.setattr(dtype_policy, "CPUINFO", tmp_path / "cpuinfo")
    assert training_policy() == policy
