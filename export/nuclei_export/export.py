"""Run folder -> model.onnx with its card, its sample and its report."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nuclei_export import convert, lint, parity
from nuclei_export.errors import EvaluationFileError, ParityError
from nuclei_export.precision import TOLERANCES, Precision, to_fp16
from nuclei_export.quantise import quantise
from nuclei_export.report import write_report
from nuclei_export.result import ExportResult
from nuclei_export.run_folder import FinishedRun, read_finished_run
from nuclei_runtime.checks.sample import ReplaySample, replay_sample, sample_path, write_sample
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.card import METADATA_KEY, SCHEMA_VERSION, ModelCard, parse_card
from nuclei_runtime.model.session import load_session
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.wording import counted

SAMPLE_SEED = 2018
SAMPLE_SIZE_PX = (200, 264)
"""Neither square nor the network's size, so that the replay covers both resizes."""


@dataclass(frozen=True)
class ExportConfig:
    """What nuclei-export was asked to do.

    Attributes
    ----------
    run, model : Path
        The run folder and the ONNX file to write.
    opset : int
    name, version, license : str
        For the model card.
    evaluation : Path or None
        An evaluation.json of this graph, whose scores are added to the card.
    precision : Precision
    reduce_range : bool
        See `nuclei_export.quantise.quantise`.
    """

    run: Path
    model: Path
    opset: int
    name: str
    version: str
    license: str
    evaluation: Path | None
    precision: Precision = Precision.FP32
    reduce_range: bool = False


def export(config: ExportConfig) -> ExportResult:
    """Write an ONNX model, its sample and its report, or nothing.

    Raises
    ------
    RunFolderError
        The folder does not contain a finished run.
    EvaluationFileError
        The evaluation belongs to another graph or cannot be read.
    CardError
        The run's description of its model is not a valid card.
    ParityError
        ONNX Runtime and Keras differ by more than the tolerance; nothing is written.
    """
    run = read_finished_run(config.run)
    keras_model = convert.load_checkpoint(run.checkpoint)
    proto = convert.convert(keras_model, config.opset)
    card = _build_card(config, run, proto, Precision.FP32)
    findings = lint.lint(proto)

    config.model.parent.mkdir(parents=True, exist_ok=True)
    temporary = config.model.with_name(config.model.name + ".part")
    temporary_sample = sample_path(temporary)
    quantisation = None
    try:
        write_model(proto, card, temporary)
        compared, tolerance = Precision.FP32, card.tolerance
        comparisons = _compare(config.run, keras_model, temporary)
        if config.precision is not Precision.FP32:
            if config.precision is Precision.FP16:
                proto = to_fp16(proto)
            else:
                quantisation = quantise(proto, card, run.read_quantisation_data(), reduce_range=config.reduce_range)
                proto = quantisation.proto
            card = _build_card(config, run, proto, config.precision)
            write_model(proto, card, temporary)
        if config.precision is Precision.FP16:  # what int8 loses is measured by its AP
            compared, tolerance = Precision.FP16, card.tolerance
            comparisons = _compare(config.run, keras_model, temporary)
        record_sample(temporary, temporary_sample)
        temporary.replace(config.model)
        temporary_sample.replace(sample_path(config.model))
    finally:
        temporary.unlink(missing_ok=True)
        temporary_sample.unlink(missing_ok=True)
    report = config.model.with_suffix(".report.md")
    result = ExportResult(card, compared, comparisons, tolerance, findings, quantisation, report, run.caveats)
    write_report(config.model, proto, result)
    return result


def _compare(run: Path, keras_model: Any, model: Path) -> list[parity.Comparison]:
    """Compare a model with the checkpoint, or raise a ParityError if they differ by more than its card allows."""
    session = load_session(model)
    comparisons = parity.compare(keras_model, session)
    worst = max(comparisons, key=lambda comparison: comparison.difference)
    precision, tolerance = session.card.provenance["precision"], session.card.tolerance
    if worst.difference > tolerance:
        raise ParityError(
            f"{run}: ONNX Runtime and Keras differ by {worst.difference:.2g} in {precision} on {worst.batch} "
            f"{worst.shape}, more than the declared tolerance of {tolerance:g}; nothing was written"
            + ("; export in fp32" if precision != Precision.FP32 else "")
        )
    return comparisons


def _build_card(config: ExportConfig, run: FinishedRun, proto: Any, precision: Precision) -> ModelCard:
    document = {
        **run.card,
        **({"tolerance": TOLERANCES[precision]} if precision in TOLERANCES else {}),
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "version": config.version,
        "license": config.license,
        "evaluation": [],
        "provenance": {
            **run.card["provenance"],
            "exported_with": f"tf2onnx {version('tf2onnx')}, onnx {version('onnx')}, opset {config.opset}",
            "checkpoint_sha256": hashlib.sha256(run.checkpoint.read_bytes()).hexdigest(),
            "graph_sha256": convert.graph_digest(proto),
            "precision": str(precision),
        },
    }
    card = parse_card(json.dumps(document), str(run.file))
    # For another precision the fp32 graph is only an intermediate step, whose scores are not wanted.
    if config.evaluation is None or precision is not config.precision:
        return card
    return parse_card(json.dumps({**document, "evaluation": _read_evaluation(config.evaluation, card)}), str(run.file))


def _read_evaluation(path: Path, card: ModelCard) -> list[Any]:
    """Return the scores of the model that a card describes; no image may have failed."""
    graph_sha256 = card.provenance["graph_sha256"]
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        model, n_failed = document["model"], len(document["failed"])
        evaluated, expected = str(model["graph_sha256"]), card.method()
        differing = [name for name, value in expected.items() if model[name] != value]
        scores = list(document["card_evaluation"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationFileError(f"{path}: not an evaluation.json written by nuclei-evaluate: {error}") from error
    if evaluated != graph_sha256:
        raise EvaluationFileError(
            f"{path}: its scores are of graph {evaluated[:12]}, but this run gives graph {graph_sha256[:12]}; "
            "evaluate the exported model first"
        )
    if differing:
        name = differing[0]
        raise EvaluationFileError(
            f"{path}: its scores are of a model with the {name} {model[name]}, but this run has {expected[name]}; "
            "evaluate the exported model again"
        )
    if n_failed:
        raise EvaluationFileError(
            f"{path}: {counted(n_failed, 'image')} could not be scored, expected none; fix them or leave them "
            "out, and evaluate again"
        )
    return scores


def write_model(proto: Any, card: ModelCard, path: Path) -> None:
    """Write a model with its card."""
    import onnx

    onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def record_sample(model: Path, path: Path) -> None:
    """Record the result of the exported model for a synthetic field, as the runtime computes it."""
    height, width = SAMPLE_SIZE_PX
    image, _ = fluorescence_field(SAMPLE_SEED, height=height, width=width)
    segmenter = Segmenter(model)
    (maps,) = segmenter.predict([image])
    write_sample(path, ReplaySample(image, maps, segmenter.find_instances(maps).labels))
    if not replay_sample(segmenter, path).ok:
        raise ParityError(f"{model}: the model does not reproduce its own sample; nothing was written")
