"""How fast this machine runs the bundled models: each execution provider, precision and number of threads."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import RuntimeEnvironmentError
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import CPU_PROVIDER, available_providers, import_onnxruntime
from nuclei_runtime.resources import cpu_count
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
ROUNDS = 5
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
class Speed:
    """The measured speed of a setting, in megapixels per second.

    Attributes
    ----------
    setting : Setting
    network : float
        The network alone.
    segmentation : float
        `nuclei_runtime.Segmenter.segment`, one image after the other.
    """

    setting: Setting
    network: float
    segmentation: float


@dataclass(frozen=True)
class Survey:
    """What is fast on this machine.

    Attributes
    ----------
    speeds : tuple of Speed
    not_measured : dict of str to str
        The reason for each provider that did not run.
    """

    speeds: tuple[Speed, ...]
    not_measured: dict[str, str]

    @property
    def recommended(self) -> Setting:
        """The fastest setting; among equally fast ones, the one with the fewest threads."""
        best = max(speed.segmentation for speed in self.speeds)
        close = [speed.setting for speed in self.speeds if speed.segmentation * CLOSE >= best]
        return min(close, key=lambda setting: setting.threads)


def survey(*, rounds: int = ROUNDS, side_px: int = SIDE_PX) -> Survey:
    """Measure every setting on synthetic fields. Each speed is the median over rounds in which all settings take turns.

    Parameters
    ----------
    rounds : int
    side_px : int
        Height and width of the fields, in pixels.
    """
    images = [fluorescence_field(seed, height=side_px, width=side_px)[0] for seed in range(N_IMAGES)]
    loaded, not_measured = load_settings()
    calls: dict[tuple[Setting, str], Callable[[], object]] = {}
    for setting, segmenter in loaded.items():
        batches = [preprocess(image, segmenter.card.preprocessing)[np.newaxis] for image in images]
        calls[setting, "network"] = partial(_call_each, segmenter.network.run, batches)
        calls[setting, "segmentation"] = partial(_call_each, segmenter.segment, images)
    seconds = alternate(calls, rounds)
    megapixels = N_IMAGES * side_px**2 / 1e6
    speeds = [
        Speed(setting, *(megapixels / seconds[setting, what] for what in ("network", "segmentation")))
        for setting in loaded
    ]
    return Survey(tuple(speeds), not_measured)


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
    """Yield the lines of the report: a table, what was not measured, and the recommended flags."""
    names = [speed.setting.provider for speed in found.speeds]
    width = max(map(len, names), default=0)
    yield f"{'provider':<{width}}  precision  threads  network MP/s  segmentation MP/s"
    for speed in sorted(found.speeds, key=lambda speed: -speed.segmentation):
        setting = speed.setting
        yield (
            f"{setting.provider:<{width}}  {setting.precision:<9}  {setting.threads:>7}  "
            f"{speed.network:>12.2f}  {speed.segmentation:>17.2f}"
        )
    for provider, reason in found.not_measured.items():
        yield f"not measured: {provider}: {reason}"
    best = found.recommended
    provider = "" if best.provider == CPU_PROVIDER else f" --provider {best.provider}"
    yield f"recommended: --precision {best.precision} --threads {best.threads}{provider}"
