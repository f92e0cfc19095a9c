"""How fast this machine runs the bundled models: each execution provider, precision and number of threads.

A number of threads means two things. A folder has as many images segmented side by side, each with one thread; that is
what nuclei-infer does. A single image is segmented by all of them together; that is what a program that embeds a
`Segmenter` waits for. The fastest settings of the two may differ, so both are measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nuclei_runtime.checks.folder_speed import FolderTime, folder_of_fields, time_folder
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import CPU_PROVIDER, available_providers, import_onnxruntime
from nuclei_runtime.resources import cpu_count, format_memory
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.preprocess import preprocess

PROVIDERS = (
    CPU_PROVIDER,
    "OpenVINOExecutionProvider",
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
)
"""Providers that are measured or listed as not measured, in addition to all that this ONNX Runtime has."""

Key = TypeVar("Key")

SIDE_PX = 512
N_IMAGES = 2
IMAGES_PER_THREAD = 4
"""In the folders: whatever the number of threads, a run takes about as long."""
ROUNDS = 5
FOLDER_ROUNDS = 3
CLOSE = 1.03
"""Two medians whose ratio is smaller count as equal, as the rounds are few: the setting with fewer threads wins."""


@dataclass(frozen=True)
class Setting:
    """One way to run the network.

    Attributes
    ----------
    provider : str
    precision : str
        A key of `nuclei_runtime.model.bundled.BUNDLED_MODELS`.
    threads : int
    """

    provider: str
    precision: str
    threads: int


@dataclass(frozen=True)
class FolderSpeed:
    """How fast a setting segments a folder.

    Attributes
    ----------
    setting : Setting
        Its threads are how many images are segmented side by side.
    speed : float
        Megapixels per second, with label images, overlays and tables written.
    peak_bytes : int
        The largest resident memory of the process.
    """

    setting: Setting
    speed: float
    peak_bytes: int


@dataclass(frozen=True)
class ImageSpeed:
    """How fast a setting segments one image after the other.

    Attributes
    ----------
    setting : Setting
        Its threads work on the same image.
    speed : float
        Megapixels per second of `nuclei_runtime.Segmenter.segment`.
    network : float
        Megapixels per second of the network alone.
    """

    setting: Setting
    speed: float
    network: float


@dataclass(frozen=True)
class Survey:
    """What is fast on this machine.

    Attributes
    ----------
    folders : tuple of FolderSpeed
    images : tuple of ImageSpeed
    not_measured : dict of str to str
        The reason for each provider or setting that did not run.
    side_px : int
        Height and width of the images, in pixels.
    """

    folders: tuple[FolderSpeed, ...]
    images: tuple[ImageSpeed, ...]
    not_measured: dict[str, str]
    side_px: int


def fastest(speeds: Sequence[FolderSpeed] | Sequence[ImageSpeed]) -> Setting:
    """Return the fastest setting; among equally fast ones, the one with the fewest threads."""
    best = max(one.speed for one in speeds)
    return min((one.setting for one in speeds if one.speed * CLOSE >= best), key=lambda setting: setting.threads)


def survey(*, rounds: int = ROUNDS, folder_rounds: int = FOLDER_ROUNDS, side_px: int = SIDE_PX) -> Survey:
    """Measure every setting on synthetic fields. Each speed is the median over rounds in which all settings take turns.

    Parameters
    ----------
    rounds, folder_rounds : int
    side_px : int
        Height and width of the fields, in pixels.
    """
    loaded, not_measured = load_settings()
    images = _survey_images(loaded, rounds, side_px)
    for segmenter in loaded.values():
        segmenter.close()
    folders, failed = _survey_folders(tuple(loaded), folder_rounds, side_px)
    return Survey(folders, images, not_measured | failed, side_px)


def _survey_images(loaded: Mapping[Setting, Segmenter], rounds: int, side_px: int) -> tuple[ImageSpeed, ...]:
    images = [fluorescence_field(seed, height=side_px, width=side_px)[0] for seed in range(N_IMAGES)]
    calls: dict[tuple[Setting, str], Callable[[], object]] = {}
    for setting, segmenter in loaded.items():
        batches = [preprocess(image, segmenter.card.preprocessing)[np.newaxis] for image in images]
        calls[setting, "network"] = partial(_call_each, segmenter.network.run, batches)
        calls[setting, "segmentation"] = partial(_call_each, segmenter.segment, images)
    seconds = alternate(calls, rounds)
    megapixels = N_IMAGES * side_px**2 / 1e6
    return tuple(
        ImageSpeed(setting, *(megapixels / seconds[setting, what] for what in ("segmentation", "network")))
        for setting in loaded
    )


def _survey_folders(
    settings: Sequence[Setting], rounds: int, side_px: int
) -> tuple[tuple[FolderSpeed, ...], dict[str, str]]:
    """Return the speeds, and ``setting -> reason`` for those that failed."""
    times: dict[Setting, list[FolderTime]] = {setting: [] for setting in settings}
    failed: dict[Setting, str] = {}
    with folder_of_fields(IMAGES_PER_THREAD * max(setting.threads for setting in settings), side_px) as folder:
        for _ in range(rounds):
            for setting in settings:
                if setting not in failed:
                    try:
                        times[setting].append(_time_folder(folder, setting))
                    except Exception as error:  # ONNX Runtime's exceptions share no base class
                        failed[setting] = str(error)
    megapixels_per_thread = IMAGES_PER_THREAD * side_px**2 / 1e6
    speeds = tuple(
        FolderSpeed(
            setting,
            setting.threads * megapixels_per_thread / statistics.median(one.seconds for one in found),
            max(one.peak_bytes for one in found),
        )
        for setting, found in times.items()
        if setting not in failed
    )
    return speeds, {f"a folder, {_flags(setting)}": reason for setting, reason in failed.items()}


def _time_folder(folder: Path, setting: Setting) -> FolderTime:
    options = SegmenterOptions(precision=setting.precision, provider=setting.provider, threads=setting.threads)
    return time_folder(folder, IMAGES_PER_THREAD * setting.threads, options)


def load_settings() -> tuple[dict[Setting, Segmenter], dict[str, str]]:
    """Load all settings that can be loaded: ``setting -> segmenter``, and ``provider -> reason`` for the others."""
    loaded: dict[Setting, Segmenter] = {}
    not_measured: dict[str, str] = {}
    built_in = available_providers()
    for provider in dict.fromkeys((*PROVIDERS, *built_in)):
        if provider not in built_in:
            not_measured[provider] = f"not in this ONNX Runtime ({import_onnxruntime().__version__})"
            continue
        for precision in BUNDLED_MODELS:
            # Providers other than the CPU choose their threads themselves.
            for threads in thread_counts() if provider == CPU_PROVIDER else (cpu_count(),):
                setting = Setting(provider, precision, threads)
                try:
                    segmenter = Segmenter(precision=precision, provider=provider, threads=threads)
                except RuntimeEnvironmentError as error:
                    not_measured[provider] = str(error)
                    continue
                try:
                    segmenter.segment(np.zeros((64, 64), np.uint8))
                except Exception as error:  # ONNX Runtime's exceptions share no base class
                    not_measured[provider] = f"does not run the {precision} model: {error}"
                    continue
                loaded[setting] = segmenter
    return loaded, not_measured


def _call_each(function: Callable[[Any], object], arguments: Sequence[Any]) -> None:
    for argument in arguments:
        function(argument)


def thread_counts() -> list[int]:
    """Return 1, 2, 4, ... and the number of processors that this process may use."""
    granted = cpu_count()
    return sorted({*(1 << bit for bit in range(granted.bit_length())), granted})


def alternate(calls: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, float]:
    """Return each call's median seconds over rounds in which all calls take turns, after one round of warm-up.

    Any other load on the machine then affects all calls equally.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[key].append(time.perf_counter() - start)
    return {key: statistics.median(values) for key, values in seconds.items()}


def report(found: Survey) -> Iterator[str]:
    """Yield the lines of the report: two tables, what was not measured, and the fastest settings."""
    width = max((len(one.setting.provider) for one in found.images), default=0)
    size = f"{found.side_px} x {found.side_px} pixels"

    def row(setting: Setting) -> str:
        return f"{setting.provider:<{width}}  {setting.precision:<9}  {setting.threads:>7}"

    head = f"{'provider':<{width}}  precision  threads"
    yield f"a folder of images of {size}, as many side by side as there are threads:"
    yield f"{head}  MP/s     peak memory"
    for folder in sorted(found.folders, key=lambda one: -one.speed):
        yield f"{row(folder.setting)}  {folder.speed:<7.2f}  {format_memory(folder.peak_bytes)}"
    yield ""
    yield f"one image of {size} at a time, with all threads:"
    yield f"{head}  MP/s     network alone  ms per image"
    for image in sorted(found.images, key=lambda one: -one.speed):
        milliseconds = found.side_px**2 / 1e3 / image.speed
        yield f"{row(image.setting)}  {image.speed:<7.2f}  {image.network:<13.2f}  {milliseconds:.0f}"
    yield ""
    for what, reason in found.not_measured.items():
        yield f"not measured: {what}: {reason}"
    if found.folders:
        yield f"fastest for a folder: nuclei-infer IMAGES --out RESULTS {_flags(fastest(found.folders))}"
    yield f"fastest for one image at a time: Segmenter({_arguments(fastest(found.images))})"


def _flags(setting: Setting) -> str:
    provider = "" if setting.provider == CPU_PROVIDER else f" --provider {setting.provider}"
    return f"--precision {setting.precision} --threads {setting.threads}{provider}"


def _arguments(setting: Setting) -> str:
    provider = "" if setting.provider == CPU_PROVIDER else f', provider="{setting.provider}"'
    return f'precision="{setting.precision}", threads={setting.threads}{provider}'
