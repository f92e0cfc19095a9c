"""nuclei-bench: real sessions on tiny models. The tests check that something was measured, not how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nuclei_runtime.checks import bench
from nuclei_runtime.checks.bench import Setting, Speed, Survey, alternate, report, survey, thread_counts
from nuclei_runtime.cli.bench import main as bench_main
from nuclei_runtime.errors import ProviderError
from nuclei_runtime.model.session import CPU_PROVIDER, available_providers
from nuclei_runtime.segmentation import options


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch, tiled_model: Path) -> None:
    monkeypatch.setattr(options, "BUNDLED_MODELS", {"fp32": tiled_model, "int8": tiled_model})


@pytest.mark.usefixtures("two_models")
def test_every_setting_is_measured_and_every_other_provider_has_its_reason() -> None:
    found = survey(rounds=1, side_px=64)
    measured = {speed.setting for speed in found.speeds}
    for precision in ("fp32", "int8"):
        for threads in thread_counts():
            assert Setting(CPU_PROVIDER, precision, threads) in measured
    assert all(speed.network > 0 and speed.segmentation > 0 for speed in found.speeds)
    providers = {setting.provider for setting in measured}
    assert providers | set(found.not_measured) == {*bench.PROVIDERS, *available_providers()}
    for provider in set(bench.PROVIDERS) - set(available_providers()):
        assert found.not_measured[provider].startswith("not in this ONNX Runtime")
    assert found.recommended in measured


@pytest.mark.usefixtures("two_models")
def test_a_provider_that_does_not_load_or_run_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub:
        def __init__(self, *, precision: str, provider: str, threads: int) -> None:
            self.precision, self.provider, self.threads = precision, provider, threads
            if provider == "TensorrtExecutionProvider":
                raise ProviderError("its libraries are missing")

        def segment(self, _: object) -> None:
            if self.provider == "CUDAExecutionProvider":
                raise RuntimeError("out of memory")

    monkeypatch.setattr(bench, "Segmenter", Stub)
    monkeypatch.setattr(bench, "available_providers", lambda: bench.PROVIDERS)
    loaded, not_measured = bench.load_settings()
    assert {setting.provider for setting in loaded} == {CPU_PROVIDER, "OpenVINOExecutionProvider"}
    assert not_measured == {
        "CUDAExecutionProvider": "does not run the int8 model: out of memory",
        "TensorrtExecutionProvider": "its libraries are missing",
    }


def test_threads_end_with_what_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    for granted, counts in {1: [1], 2: [1, 2], 6: [1, 2, 4, 6], 8: [1, 2, 4, 8]}.items():
        monkeypatch.setattr(bench, "cpu_count", lambda granted=granted: granted)
        assert thread_counts() == counts


def test_calls_take_turns_after_one_round_that_does_not_count() -> None:
    order: list[str] = []
    seconds = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert set(seconds) == {"a", "b"}


def test_the_report_names_all_and_recommends_the_fewest_threads_of_the_fastest() -> None:
    speeds = (
        Speed(Setting(CPU_PROVIDER, "fp32", 1), 1.5, 1.2),
        Speed(Setting(CPU_PROVIDER, "int8", 4), 9.0, 6.0),
        Speed(Setting(CPU_PROVIDER, "int8", 2), 8.0, 5.9),
    )
    lines = list(report(Survey(speeds, {"CUDAExecutionProvider": "not in this ONNX Runtime (1)"})))
    assert [line.split() for line in lines[1:4]] == [
        [CPU_PROVIDER, "int8", "4", "9.00", "6.00"],
        [CPU_PROVIDER, "int8", "2", "8.00", "5.90"],
        [CPU_PROVIDER, "fp32", "1", "1.50", "1.20"],
    ]
    assert lines[4:] == [
        "not measured: CUDAExecutionProvider: not in this ONNX Runtime (1)",
        "recommended: --precision int8 --threads 2",
    ]
    fast = Speed(Setting("CUDAExecutionProvider", "fp32", 2), 90.0, 20.0)
    assert list(report(Survey((*speeds, fast), {})))[-1] == (
        "recommended: --precision fp32 --threads 2 --provider CUDAExecutionProvider"
    )


@pytest.mark.usefixtures("two_models")
def test_the_command_prints_a_table(
    run_main: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SIDE_PX", 64)
    code, out, err = run_main(bench_main)
    assert (code, err) == (0, "")
    assert out.startswith("provider ")
    assert "recommended: --precision " in out
