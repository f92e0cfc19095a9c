"""nuclei-bench: real sessions and real runs. The tests check that something was measured, not how fast it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nuclei_runtime.checks import bench
from nuclei_runtime.checks.bench import (
    FolderSpeed,
    ImageSpeed,
    Setting,
    Survey,
    alternate,
    fastest,
    report,
    survey,
    thread_counts,
)
from nuclei_runtime.checks.folder_speed import folder_of_fields, time_folder
from nuclei_runtime.cli.bench import main as bench_main
from nuclei_runtime.cli.infer import main as infer_main
from nuclei_runtime.errors import ProviderError
from nuclei_runtime.model.session import CPU_PROVIDER, available_providers
from nuclei_runtime.segmentation import options
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.segmenter import Segmenter


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch, tiled_model: Path) -> None:
    monkeypatch.setattr(options, "BUNDLED_MODELS", {"fp32": tiled_model, "int8": tiled_model})


@pytest.mark.usefixtures("two_models")
def test_every_setting_is_measured_and_every_other_provider_has_its_reason() -> None:
    found = survey(rounds=1, folder_rounds=1, side_px=64)
    measured = {one.setting for one in found.images}
    for precision in ("fp32", "int8"):
        for threads in thread_counts():
            assert Setting(CPU_PROVIDER, precision, threads) in measured
    assert {one.setting for one in found.folders} == measured
    assert all(one.network > 0 and one.speed > 0 for one in found.images)
    assert all(one.speed > 0 and one.peak_bytes > 50 << 20 for one in found.folders)
    providers = {setting.provider for setting in measured}
    assert providers | set(found.not_measured) == {*bench.PROVIDERS, *available_providers()}
    for provider in set(bench.PROVIDERS) - set(available_providers()):
        assert found.not_measured[provider].startswith("not in this ONNX Runtime")


def test_a_folder_is_segmented_as_nuclei_infer_does() -> None:
    with folder_of_fields(3, 64) as folder:
        measured = time_folder(folder, 2, SegmenterOptions(precision="int8", threads=2))
        assert sorted(path.name for path in (folder / "results/overlays").iterdir()) == ["00000.png", "00001.png"]
        assert (folder / "results/nuclei.csv").is_file()
    assert measured.seconds > 0
    assert not folder.exists()


def test_a_setting_whose_runs_fail_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = Setting(CPU_PROVIDER, "int8", 1), Setting("NoSuchExecutionProvider", "fp32", 1)
    monkeypatch.setattr(bench, "load_settings", lambda: (dict.fromkeys((good, bad), Segmenter()), {}))
    found = survey(rounds=1, folder_rounds=1, side_px=64)
    assert [one.setting for one in found.folders] == [good]
    (reason,) = found.not_measured.items()
    assert reason[0] == "a folder, --precision fp32 --threads 1 --provider NoSuchExecutionProvider"
    assert reason[1].startswith("NoSuchExecutionProvider is not in this ONNX Runtime")


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


def test_among_equally_fast_settings_the_one_with_the_fewest_threads_is_taken() -> None:
    two, four, eight = (Setting(CPU_PROVIDER, "int8", threads) for threads in (2, 4, 8))
    speeds = [ImageSpeed(two, 5.9, 0), ImageSpeed(four, 6.0, 0), ImageSpeed(eight, 5.99, 0)]
    assert fastest(speeds) == two
    assert fastest([*speeds, ImageSpeed(eight, 6.2, 0)]) == eight


def test_the_report_names_all_and_the_fastest_of_each_kind() -> None:
    cpu, gpu = Setting(CPU_PROVIDER, "fp32", 4), Setting("CUDAExecutionProvider", "int8", 1)
    found = Survey(
        (FolderSpeed(gpu, 1.5, 300 << 20), FolderSpeed(cpu, 12.0, 200 << 20)),
        (ImageSpeed(cpu, 2.0, 4.0), ImageSpeed(gpu, 8.0, 9.0)),
        {"TensorrtExecutionProvider": "not in this ONNX Runtime (1)"},
        side_px=400,
    )
    lines = list(report(found))
    rows = [line.split() for line in lines]
    assert rows[2:4] == [
        [CPU_PROVIDER, "fp32", "4", "12.00", "200", "MiB"],
        ["CUDAExecutionProvider", "int8", "1", "1.50", "300", "MiB"],
    ]
    assert rows[7:9] == [
        ["CUDAExecutionProvider", "int8", "1", "8.00", "9.00", "20"],
        [CPU_PROVIDER, "fp32", "4", "2.00", "4.00", "80"],
    ]
    assert lines[-3:] == [
        "not measured: TensorrtExecutionProvider: not in this ONNX Runtime (1)",
        "fastest for a folder: nuclei-infer IMAGES --out RESULTS --precision fp32 --threads 4",
        'fastest for one image at a time: Segmenter(precision="int8", threads=1, provider="CUDAExecutionProvider")',
    ]


@pytest.mark.usefixtures("two_models")
def test_the_command_that_is_printed_runs(
    run_main: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "survey", partial(survey, rounds=1, folder_rounds=1, side_px=64))
    monkeypatch.setattr(bench, "thread_counts", lambda: [2])
    code, out, err = run_main(bench_main)
    assert (code, err) == (0, "")
    found = re.search(r"^fastest for a folder: nuclei-infer (.*)$", out, re.MULTILINE)
    assert found is not None
    with folder_of_fields(2, 64) as folder:
        places = {"IMAGES": str(folder / "images"), "RESULTS": str(tmp_path / "results")}
        code, out, err = run_main(infer_main, *(places.get(word, word) for word in shlex.split(found[1])))
    assert code == 0, err
    assert "2 images" in out
