"""A model file -> a folder that bioimage.io accepts: rdf.yaml, the same ONNX file, test tensors, cover, documentation.

What is described ends at the maps of the network: the spec has no step for the model's contrast, none for the choice
of views, and none for a watershed. `nuclei_export.bioimageio.contrast` has the nearest contrast. The documentation in
the package says what that changes, and how to do the rest.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nuclei_export.bioimageio import citation
from nuclei_export.bioimageio.contrast import EPSILON, LOWER_PERCENT, UPPER_PERCENT, scale_range
from nuclei_export.bioimageio.documentation import describe
from nuclei_export.bioimageio.pictures import draw_cover, draw_samples
from nuclei_export.errors import PackageError
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.model.bundled import BUNDLED_MODEL
from nuclei_runtime.model.card import ModelCard
from nuclei_runtime.model.session import load_session
from nuclei_runtime.steps.preprocess import as_input
from nuclei_runtime.steps.tiling import Tiling

RDF = "rdf.yaml"
WEIGHTS, README, COVER = "weights.onnx", "README.md", "cover.png"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
SAMPLE_INPUT, SAMPLE_OUTPUT = "sample_input.png", "sample_output.png"
"""The same, for people to look at."""

SEED = 2018
MIN_TEST_SIZE_PX = 256
"""Side of the test image, which may have to be larger: at least a tile with its halo."""

MAX_TOLERANCE_IN_MAXIMA = 0.01
"""How large the tolerance may be, compared with the largest value of the test output; the spec refuses more."""


@dataclass(frozen=True)
class PackageConfig:
    """What is packaged.

    Attributes
    ----------
    folder : Path
        The package to write; it does not exist or is empty.
    model : Path
        An exported model with its card.
    authors : tuple of str
        Names; may be empty for the bundled model.
    """

    folder: Path
    model: Path = BUNDLED_MODEL
    authors: tuple[str, ...] = ()


def write_package(config: PackageConfig) -> None:
    """Write a package for bioimage.io, or nothing.

    bioimageio.core loads the package and runs it on its test tensors before it gets its name.

    Raises
    ------
    ResultsExistError
        The folder is not empty.
    PackageError
        The model cannot be described, or bioimageio.core refuses what was written.
    ModelError, RuntimeEnvironmentError
        See `nuclei_runtime.model.session.load_session`.
    """
    folder = config.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultsExistError(f"{folder}: not an empty folder; choose a new one for the package")
    session = load_session(config.model)
    is_bundled = session.sha256 == hashlib.sha256(BUNDLED_MODEL.read_bytes()).hexdigest()
    tiling = _check_can_be_described(session.card, config.model)
    side = max(-(-MIN_TEST_SIZE_PX // tiling.multiple_of_px) * tiling.multiple_of_px, _smallest_px(tiling))
    image = np.repeat(fluorescence_field(SEED, height=side, width=side)[0][..., np.newaxis], 3, axis=-1)
    maps = session.run(as_input(scale_range(image))[np.newaxis])
    if session.card.tolerance > MAX_TOLERANCE_IN_MAXIMA * maps.max():
        raise PackageError(
            f"{config.model}: its maps may differ by {session.card.tolerance:g} between machines, and bioimage.io "
            f"accepts at most {MAX_TOLERANCE_IN_MAXIMA:.0%} of the largest value; package the fp32 model"
        )
    if not config.authors and not is_bundled:
        raise PackageError(f"{config.model}: has no authors; name who made it with --author, once for each person")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        part = Path(temporary) / "package"
        part.mkdir()
        shutil.copyfile(config.model, part / WEIGHTS)
        np.save(part / TEST_INPUT, image[np.newaxis].astype(np.float32))
        np.save(part / TEST_OUTPUT, maps)
        draw_cover(part / COVER, image, maps[0])
        draw_samples(part / SAMPLE_INPUT, part / SAMPLE_OUTPUT, image, maps[0])
        (part / README).write_text(describe(session.card, tiling, session.sha256, is_bundled), encoding="utf-8")
        _write_rdf(part, session.card, tiling, config.authors or citation.AUTHORS, is_bundled)
        _check_with_core(part)
        if folder.exists():
            folder.rmdir()
        part.replace(folder)


def _check_can_be_described(card: ModelCard, model: Path) -> Tiling:
    """Return the tiling of a model, or raise a PackageError if bioimage.io has no words for the model."""
    if card.input.tiling is None:
        raise PackageError(
            f"{model}: takes images of {card.input.height} x {card.input.width} pixels only, and bioimage.io has no "
            "step that resizes; package a model of the recipe native"
        )
    steps = [step.id for step in card.preprocessing]
    if steps != ["structure_normalisation"]:
        raise PackageError(
            f"{model}: its preprocessing is {', '.join(steps) or 'none'}; only models with structure_normalisation can "
            "be packaged: train one with this version"
        )
    return card.input.tiling


def _smallest_px(tiling: Tiling) -> int:
    """Return the smallest side of an input: without its halo, something must be left of a tile."""
    return 2 * tiling.halo_px + tiling.multiple_of_px


def _write_rdf(part: Path, card: ModelCard, tiling: Tiling, authors: Sequence[str], is_bundled: bool) -> None:
    """Write the description next to the files that it names."""
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description, save_bioimageio_package_as_folder

    with ValidationContext(root=part, log_warnings=False):
        description = build_description(_description(part, card, tiling, authors, is_bundled))
        if isinstance(description, InvalidDescr):
            raise PackageError(f"bioimageio.spec refuses the description:\n{description.get_reason()}")
        save_bioimageio_package_as_folder(description, output_path=part)


def _description(
    part: Path, card: ModelCard, tiling: Tiling, authors: Sequence[str], is_bundled: bool
) -> dict[str, Any]:
    """Return the content of rdf.yaml in the words of the spec."""
    import onnx
    from bioimageio.spec.model.v0_5 import ModelDescr

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256((part / name).read_bytes()).hexdigest()}

    (opset,) = (entry.version for entry in onnx.load(part / WEIGHTS).opset_import if entry.domain in ("", "ai.onnx"))
    size = {"min": _smallest_px(tiling), "step": tiling.multiple_of_px}

    def size_of(axis: str) -> dict[str, Any]:
        return {"tensor_id": "image", "axis_id": axis, "offset": 0}

    sides = ("y", "x")
    return {
        "type": "model",
        "format_version": ModelDescr.implemented_format_version,
        "name": card.name,
        "version": card.version,
        "description": f"{card.description} A package of the network up to its maps: the watershed is not part of it.",
        "authors": [{"name": name} for name in authors],
        "cite": [citation.TRAINING_DATA] if is_bundled else [],
        "license": card.license,
        "tags": ["nuclei", "segmentation", "instance-segmentation", "unet", "2d", "microscopy", "onnx", "nuclei-edge"],
        "documentation": file(README),
        "covers": [file(COVER)],
        "inputs": [
            {
                "id": "image",
                "description": "RGB, or grey three times, of any range of values; native scale",
                "axes": [
                    {"type": "batch"},
                    *({"type": "space", "id": side, "size": size, "concatenable": True} for side in sides),
                    {"type": "channel", "id": "channel", "channel_names": ["red", "green", "blue"]},
                ],
                "data": {"type": "float32"},
                "preprocessing": [
                    {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                    {
                        "id": "scale_range",
                        "kwargs": {
                            "axes": [*sides, "channel"],
                            "min_percentile": LOWER_PERCENT,
                            "max_percentile": UPPER_PERCENT,
                            "eps": EPSILON,
                        },
                    },
                    {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}},
                    {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
                ],
                "test_tensor": file(TEST_INPUT),
                "sample_tensor": file(SAMPLE_INPUT),
            }
        ],
        "outputs": [
            {
                "id": "maps",
                "description": ", ".join(card.output.maps),
                "axes": [
                    {"type": "batch"},
                    *({"type": "space", "id": side, "size": size_of(side), "halo": tiling.halo_px} for side in sides),
                    {"type": "channel", "id": "channel", "channel_names": list(card.output.maps)},
                ],
                "data": {"type": "float32", "range": [0.0, 1.0]},
                "test_tensor": file(TEST_OUTPUT),
                "sample_tensor": file(SAMPLE_OUTPUT),
            }
        ],
        "weights": {"onnx": {**file(WEIGHTS), "opset_version": opset}},
        "config": {
            "bioimageio": {
                "reproducibility_tolerance": [
                    {
                        "absolute_tolerance": card.tolerance,
                        "relative_tolerance": 0.0,
                        "mismatched_elements_per_million": 0,
                    }
                ],
                "architecture_type": "2D U-Net",
                "target_structure": ["nuclei"],
                "task": "segmentation",
                "bias_risks_limitations": {"limitations": "\n".join(f"- {line}" for line in card.limitations)},
            }
        },
    }


def _check_with_core(part: Path) -> None:
    """Let bioimageio.core validate the package and run it on its test tensors."""
    from bioimageio.core import test_description
    from loguru import logger

    logger.disable("bioimageio")
    summary = test_description(part / RDF)
    if summary.status != "passed":
        found = "; ".join(f"{'.'.join(map(str, e.loc))}: {e.msg}" for detail in summary.details for e in detail.errors)
        raise PackageError(f"bioimageio.core refuses the package: {found}")
