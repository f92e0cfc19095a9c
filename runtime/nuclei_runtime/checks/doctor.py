"""What this machine has, whether the model computes the right results on it, and what to do if not."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from nuclei_runtime.checks.sample import replay_sample, sample_path
from nuclei_runtime.errors import ModelError, RuntimeEnvironmentError
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.session import available_providers
from nuclei_runtime.resources import cpu_count, memory_limit_bytes
from nuclei_runtime.segmentation.segmenter import Segmenter

_PACKAGES = ("nuclei-edge", "numpy", "scipy", "scikit-image", "pillow", "tifffile", "pypng", "typer", "rich")

_PIP_LINE_OF_PROVIDER = {
    # The wheel brings no CUDA libraries of its own, only through these extras.
    "CUDAExecutionProvider": 'pip install "onnxruntime-gpu[cuda,cudnn]", and a matching NVIDIA driver',
}
"""Providers that must load if the build lists them, and the fix if they do not. A GPU build lists others as well, such
as TensorRT's, that need more software: if those do not load, they are shown but not reported as a problem."""


@dataclass(frozen=True)
class Diagnosis:
    """What the checks found.

    Attributes
    ----------
    lines : tuple of str
        What this machine has.
    problems : tuple of str
        What is wrong, each with its fix; empty if everything is fine.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...]


def diagnose(model: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Check the packages, processors, memory and execution providers, and replay a model's sample.

    Parameters
    ----------
    model : path, optional
        An ONNX file with its sample next to it. Without it, the bundled model.
    """
    lines, problems = [f"{'python':<14}{platform.python_version()}"], []
    for package in _PACKAGES:
        try:
            lines.append(f"{package:<14}{version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package:<14}not installed")
            problems.append(f"{package} is not installed; pip install {package}")
    found, fault = _onnxruntime()
    lines.append(f"{'onnxruntime':<14}{found}")
    problems += [fault] if fault else []
    lines.append(f"{'processors':<14}{cpu_count()} granted, {os.cpu_count()} in the machine")
    lines.append(f"{'memory':<14}{memory_limit_bytes() / 2**30:.1f} GiB")
    path = Path(model) if model is not None else BUNDLED_MODEL
    lines.append(f"{'model':<14}{path}")
    if not path.is_file() and model is None:
        problems.append("the bundled model is missing; install nuclei-edge again")
    elif not fault:
        _try_providers(path, lines, problems)
    return Diagnosis(tuple(lines), tuple(dict.fromkeys(problems)))


def _onnxruntime() -> tuple[str, str | None]:
    """Return which ONNX Runtime is installed, and what is wrong with it."""
    wheels = sorted(set(packages_distributions().get("onnxruntime", [])))
    listed = ", ".join(f"{wheel} {version(wheel)}" for wheel in wheels)
    if not wheels:
        return "not installed", 'onnxruntime is not installed; pip install "nuclei-edge[cpu]"'
    if len(wheels) > 1:
        return listed, (
            f"{' and '.join(wheels)} are installed together, and each overwrites files of the other; "
            f'pip uninstall -y {" ".join(wheels)}, then pip install "nuclei-edge[cpu]" or "nuclei-edge[gpu]"'
        )
    try:
        available_providers()
    except ImportError as error:
        return listed, f"{wheels[0]} cannot be imported ({error}); pip install --force-reinstall {wheels[0]}"
    return listed, None


def _try_providers(model: Path, lines: list[str], problems: list[str]) -> None:
    """Load the model and replay its sample on each provider that this ONNX Runtime lists."""
    for provider in available_providers():
        fix = _PIP_LINE_OF_PROVIDER.get(provider)
        try:
            segmenter = Segmenter(model, provider=provider)
        except ModelError as error:  # the same with every provider
            problems.append(str(error))
            return
        except RuntimeEnvironmentError as error:
            lines.append(f"{provider}: does not load")
            problems += [f"{error}; {fix}"] if fix else []
            continue
        digest = f"{'':<14}SHA-256 {segmenter.model_sha256}"
        if digest not in lines:
            lines.append(digest)
        loads = f"{provider}: loads {segmenter.card.name} {segmenter.card.version}"
        try:
            replay = replay_sample(segmenter, sample_path(model))
        except ModelError as error:
            lines.append(loads)
            problems.append(str(error))
            continue
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            lines.append(f"{loads}, but does not run it")
            problems.append(f"{provider} does not run the model: {error}; {fix or 'use another provider'}")
            continue
        lines.append(
            f"{loads}; its sample differs by "
            f"{replay.difference:.2g} in probability (allowed: {replay.tolerance:.2g})"
            f"{'' if replay.labels_equal else ', and in its labels'}"
        )
        if replay.difference > replay.tolerance:
            problems.append(
                f"{provider} computes probabilities that differ from those of the sample; use another provider, "
                "update its driver, or pip install --force-reinstall onnxruntime"
            )
        if not replay.labels_equal:
            problems.append(
                "the labels differ from those of the sample; install nuclei-edge again, and "
                "pip install --force-reinstall scipy"
            )
