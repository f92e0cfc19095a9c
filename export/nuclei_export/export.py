"""RUN FOLDER -> model.onnx with its card, its sample and its report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nuclei_export import convert, lint, parity
from nuclei_export.errors import EvaluationFileError, ParityError, RunFolderError
from nuclei_export.precision import TOLERANCES, Precision, to_fp16
from nuclei_export.quantisation_data import read_quantisation_data
from nuclei_export.quantise import Quantisation, quantise
from nuclei_export.report import write_report
from nuclei_runtime.checks.sample import ReplaySample, replay_sample, sample_path, write_sample
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.model.card import METADATA_KEY, SCHEMA_VERSION, ModelCard, parse_card
from nuclei_runtime.model.session import load_session
from nuclei_runtime.segmentation.segmenter import Segmenter

SAMPLE_SEED = 2018
SAMPLE_SIZE_PX = (200, 264)
"""Neither square nor of the network's size, so that the replay covers both resizes."""


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
        An evaluation.json of this very graph, whose scores go into the card.
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


@dataclass(frozen=True)
class ExportResult:
    """What an export gave.

    Attributes
    ----------
    card : ModelCard
    comparisons : list of Comparison
        Of the graph in fp32.
    tolerance : float
        Of those comparisons; the file's own stands in its card.
    findings : list of Finding
    quantisation : Quantisation or None
        How it became int8, where it did.
    report : Path
    """

    card: ModelCard
    comparisons: Sequence[parity.Comparison]
    tolerance: float
    findings: Sequence[lint.Finding]
    quantisation: Quantisation | None
    report: Path

    @property
    def difference(self) -> float:
        """Largest absolute difference in probability between ONNX Runtime and Keras, in fp32."""
        return max(comparison.difference for comparison in self.comparisons)


def export(config: ExportConfig) -> ExportResult:
    """Write an ONNX model, its sample and its report, or nothing.

    Raises
    ------
    RunFolderError
        There is no finished run in the folder.
    EvaluationFileError
        The evaluation is of another graph or cannot be read.
    CardError
        The run describes its model in a way that no runtime would take.
    ParityError
        ONNX Runtime and Keras differ by more than the tolerance; nothing is written.
    """
    run = _read_finished_run(config.run)
    checkpoint = config.run / _checkpoint_name(run)
    keras_model = convert.load_checkpoint(checkpoint)
    proto = convert.convert(keras_model, config.opset)
    card = _build_card(config, run, checkpoint, proto, Precision.FP32)
    tolerance = card.tolerance
    findings = lint.lint(proto)

    config.model.parent.mkdir(parents=True, exist_ok=True)
    temporary = config.model.with_name(config.model.name + ".part")
    temporary_sample = sample_path(temporary)
    quantisation = None
    try:
        _write(proto, card, temporary)
        comparisons = parity.compare(keras_model, load_session(temporary))
        worst = max(comparisons, key=lambda comparison: comparison.difference)
        if worst.difference > tolerance:
            raise ParityError(
                f"{config.run}: ONNX Runtime and Keras differ by {worst.difference:.2g} on {worst.batch} "
                f"{worst.shape}, the declared tolerance is {tolerance:g}; nothing was written"
            )
        if config.precision is not Precision.FP32:
            if config.precision is Precision.FP16:
                proto = to_fp16(proto)
            else:
                data = read_quantisation_data(config.run)
                quantisation = quantise(proto, card, data, reduce_range=config.reduce_range)
                proto = quantisation.proto
            card = _build_card(config, run, checkpoint, proto, config.precision)
            _write(proto, card, temporary)
        _write_sample(temporary, temporary_sample)
        temporary.replace(config.model)
        temporary_sample.replace(sample_path(config.model))
    finally:
        temporary.unlink(missing_ok=True)
        temporary_sample.unlink(missing_ok=True)
    result = ExportResult(card, comparisons, tolerance, findings, quantisation, config.model.with_suffix(".report.md"))
    write_report(config.model, proto, result)
    return result


def _read_finished_run(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}); name a folder that nuclei-train made") from error
    status = run.get("status") if isinstance(run, dict) else None
    if status != "complete":
        raise RunFolderError(
            f"{folder}: the run is {status!r}, expected 'complete'; finish it with nuclei-train --resume"
        )
    return dict(run)


def _checkpoint_name(run: dict[str, Any]) -> str:
    """The run's own word for what is to be exported, which has to be a file in its folder."""
    name = str(run.get("checkpoint"))
    if Path(name).name != name:
        raise RunFolderError(f"run.json: found the checkpoint {name!r}, expected a file's name; train again")
    return name


def _build_card(
    config: ExportConfig, run: dict[str, Any], checkpoint: Path, proto: Any, precision: Precision
) -> ModelCard:
    source = config.run / "run.json"
    graph_sha256 = convert.graph_digest(proto)
    try:
        versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        model = dict(run["model"])
        provenance = {
            "recipe": str(run["recipe"]["name"]),
            "seed": str(run["recipe"]["seed"]),
            "trained_with": f"{versions}, backend {run['backend']}",
            "exported_with": f"tf2onnx {version('tf2onnx')}, onnx {version('onnx')}, opset {config.opset}",
            "training_data": f"{run['data']['name']}, split {run['split']['source']}",
            "training_data_sha256": str(run["data_digests"]["train"]),
            "validation_data_sha256": str(run["data_digests"]["val"]),
            "split_sha256": str(run["split"]["digest"]),
            "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
            "graph_sha256": graph_sha256,
            "precision": str(precision),
            **({"started_from_sha256": str(run["start"]["checkpoint_sha256"])} if "start" in run else {}),
            **({"taught_by_sha256": str(run["teacher"]["model_sha256"])} if "teacher" in run else {}),
        }
        if precision in TOLERANCES:
            model["tolerance"] = TOLERANCES[precision]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"{source}: lacks what the model card needs ({error!r}); train again") from error
    document = {
        **model,
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "version": config.version,
        "license": config.license,
        "evaluation": [],
        "provenance": provenance,
    }
    card = parse_card(json.dumps(document), str(source))
    # The graph in fp32 is only a step on the way to another precision: its scores are not asked for.
    if config.evaluation is None or precision is not config.precision:
        return card
    return parse_card(json.dumps({**document, "evaluation": _read_evaluation(config.evaluation, card)}), str(source))


def _read_evaluation(path: Path, card: ModelCard) -> list[Any]:
    """Return the scores of the very model that a card describes, on all images that it was asked to score."""
    graph_sha256 = card.provenance["graph_sha256"]
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        model, n_failed = document["model"], len(document["failed"])
        evaluated, postprocessing = str(model["graph_sha256"]), model["postprocessing"]
        scores = list(document["card_evaluation"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationFileError(f"{path}: not an evaluation.json that nuclei-evaluate wrote: {error}") from error
    if evaluated != graph_sha256:
        raise EvaluationFileError(
            f"{path}: its scores are of graph {evaluated[:12]}, this run gives graph {graph_sha256[:12]}; "
            "evaluate the exported model first"
        )
    expected = json.loads(json.dumps(asdict(card.postprocessing)))
    if postprocessing != expected:
        raise EvaluationFileError(
            f"{path}: its scores are of nuclei found with {postprocessing}, this run has {expected}; "
            "evaluate the exported model anew"
        )
    if n_failed:
        raise EvaluationFileError(
            f"{path}: {n_failed} images could not be scored, expected none; leave them out or mend them, and evaluate "
            "anew"
        )
    return scores


def _write(proto: Any, card: ModelCard, path: Path) -> None:
    """Write a model with its card."""
    import onnx

    onnx.helper.set_model_props(proto, {METADATA_KEY: card.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _write_sample(model: Path, path: Path) -> None:
    """Record what the exported model does with a synthetic field, as the runtime runs it."""
    height, width = SAMPLE_SIZE_PX
    image, _ = fluorescence_field(SAMPLE_SEED, height=height, width=width)
    segmenter = Segmenter(model)
    (maps,) = segmenter.predict([image])
    write_sample(path, ReplaySample(image, maps, segmenter.find_instances(maps).labels))
    if not replay_sample(segmenter, path).ok:
        raise ParityError(f"{model}: the model does not give its own sample twice; nothing was written")
