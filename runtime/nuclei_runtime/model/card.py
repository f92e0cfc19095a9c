"""The model card: everything needed to run a model, as JSON inside the ONNX file.

It is stored in the ``metadata_props`` of the file under `METADATA_KEY`, as canonical JSON (UTF-8, sorted keys, no
spaces). It uses the vocabulary of bioimage.io where that has a word. `parse_card` reports all problems at once, each
with its location.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nuclei_runtime.errors import CardError
from nuclei_runtime.json_fields import Fields, ReadOnlyObject, canonical_json, is_int, parse_json, shown
from nuclei_runtime.model.card_conflicts import conflicts_of_input, conflicts_of_output
from nuclei_runtime.steps.flags import FlagLimits, take_flag_limits
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.preprocess import CHANNELS, STEPS
from nuclei_runtime.steps.score import ScoreModel, take_score_model
from nuclei_runtime.steps.step import MAX_SIDE_PX, InstanceMethod, PreprocessingStep, Step
from nuclei_runtime.steps.tiling import Tiling
from nuclei_runtime.steps.view_choice import ViewChoice, take_view_choice

METADATA_KEY = "nuclei.model_card"
SCHEMA_VERSION = 1
MAX_CARD_BYTES = 1 << 20
"""A card is about a page of text; nothing near a megabyte is a card."""

MAX_PROBLEMS = 100
"""Further problems are counted but not listed, to keep the message readable."""

# Upper bounds, so that no card can ask for more than a machine has. All are far beyond any practical use: the native
# recipe uses core_px 512, halo_px 96 and multiple_of_px 16.
MAX_CORE_PX = 4096
"""Side of a tile's core."""
MAX_HALO_PX = 1024
MAX_MULTIPLE_PX = 256
MAX_STEPS = 8
"""Number of preprocessing steps."""
MAX_SCORES = 1000
"""Number of entries in ``evaluation``."""
MAX_EXTENSIONS_BYTES = 1 << 16
"""Size of ``extensions`` as canonical JSON."""


@dataclass(frozen=True)
class InputSpec:
    """The input of the network: batch, rows, columns, channels (axes ``byxc``), float32.

    Attributes
    ----------
    name : str
        Name of the ONNX input.
    height, width : int or None
        Fixed size in pixels, which the last preprocessing step must produce; both None if the network takes any size.
    channels : int
    tiling : Tiling or None
        How an image is cut into tiles for a network that takes any size; None if the size is fixed.
    """

    name: str
    height: int | None
    width: int | None
    channels: int
    tiling: Tiling | None


@dataclass(frozen=True)
class OutputSpec:
    """The output of the network: batch, rows, columns, maps (axes ``byxc``), float32 in [0, 1], as large as the input.

    Attributes
    ----------
    name : str
        Name of the ONNX output.
    maps : tuple of str
        The meaning of the channels: the first ones of `nuclei_runtime.steps.step.MAPS`.
    """

    name: str
    maps: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """One score, as measured by `nuclei-evaluate`.

    Attributes
    ----------
    dataset : str
        The set of images, including its split.
    digest : str
        SHA-256 over the identifiers and bytes of the scored images and masks.
    metric : str
    value : float
    """

    dataset: str
    digest: str
    metric: str
    value: float


_METHOD = ("preprocessing", "postprocessing", "training_nucleus_diameter_px", "views")


@dataclass(frozen=True)
class ModelCard:
    """Describes a model: its input, output and steps, and how well it performs.

    Attributes
    ----------
    schema_version : int
        `SCHEMA_VERSION`; any other is refused.
    name, version, license, description : str
    input : InputSpec
    preprocessing : tuple of Step
        In order; their identifiers are from `nuclei_runtime.steps.preprocess.STEPS`.
    output : OutputSpec
    postprocessing : Step
        Its identifier is one of `nuclei_runtime.steps.instances.METHODS`.
    training_nucleus_diameter_px : float
        Median diameter, in pixels of the original images, of a disk with the area of a training nucleus.
    tolerance : float
        Largest absolute difference in probability between this file on any provider and the checkpoint from which it
        was exported.
    views : ViewChoice or None
        How a view is chosen for each image; None if the network is to be shown all images as they are.
    score : ScoreModel or None
        How probable it is that a nucleus is right; None if that is not known.
    flags : FlagLimits or None
        What is ordinary for an image; others are flagged. None if that is not known.
    evaluation : tuple of Evaluation
    provenance : dict of str to str
        Digests, versions, seed, recipe.
    limitations : tuple of str
        Sentences for human readers.
    extensions : mapping
        Any further JSON, read-only, which this version of nuclei-edge may ignore. A new field that a reader must not
        ignore requires another `SCHEMA_VERSION`.
    """

    schema_version: int
    name: str
    version: str
    license: str
    description: str
    input: InputSpec
    preprocessing: tuple[Step, ...]
    output: OutputSpec
    postprocessing: Step
    training_nucleus_diameter_px: float
    tolerance: float
    evaluation: tuple[Evaluation, ...]
    provenance: dict[str, str]
    limitations: tuple[str, ...]
    views: ViewChoice | None = None
    score: ScoreModel | None = None
    flags: FlagLimits | None = None
    extensions: Mapping[str, Any] = field(default_factory=ReadOnlyObject)

    def to_json(self) -> str:
        """Return the card as canonical JSON, without the optional fields that are empty."""
        empty = {name for name in ("views", "score", "flags", "extensions") if not getattr(self, name)}
        return canonical_json({name: value for name, value in asdict(self).items() if name not in empty})

    def method(self) -> dict[str, Any]:
        """Return the fields that decide, with the graph, which nuclei are found, as JSON has them; None if empty."""
        document = json.loads(self.to_json())
        return {name: document.get(name) for name in _METHOD}


def parse_card(text: str, source: str) -> ModelCard:
    """Read a card.

    Parameters
    ----------
    text : str
        JSON.
    source : str
        Where the card comes from, for the message.

    Raises
    ------
    CardError
        Lists every problem of the card.
    """
    # A lone surrogate, which JSON can express but UTF-8 cannot, counts as one byte here and is refused later.
    if len(text.encode("utf-8", "replace")) > MAX_CARD_BYTES:
        raise CardError(source, (f"$: larger than {MAX_CARD_BYTES} bytes",))
    problems: list[str] = []
    document = parse_json(text, problems)
    if isinstance(document, dict) and document.get("schema_version") != SCHEMA_VERSION:
        found = shown(document.get("schema_version"))
        raise CardError(
            source,
            (
                f"schema_version: found {found}, this version of nuclei-edge reads {SCHEMA_VERSION}; "
                "use the version of nuclei-edge for which the model was made",
            ),
        )
    card = _card(Fields(document, "$", problems)) if not problems else None
    if card is None or problems:
        more = len(problems) - MAX_PROBLEMS
        raise CardError(source, (*problems[:MAX_PROBLEMS], *([f"$: and {more} more problems"] if more > 0 else [])))
    return card


def _step(reader: Fields, known: Mapping[str, PreprocessingStep | InstanceMethod]) -> Step:
    step_id = reader.take("id", lambda v: isinstance(v, str) and v in known, f"one of {', '.join(sorted(known))}", "")
    kwargs = reader.object("kwargs")
    arguments = known[step_id].arguments if step_id else {}
    values = {name: argument.take(kwargs, name) for name, argument in arguments.items()}
    if step_id:
        kwargs.close()
    reader.close()
    return Step(step_id, ReadOnlyObject(values))


def _input(reader: Fields) -> InputSpec:
    name = reader.text("name")
    channels = reader.take("channels", lambda v: is_int(v) and v == CHANNELS, f"{CHANNELS}", CHANNELS)
    if reader.fields.get("tiling") is not None:
        nothing = ("null, because there is a tiling", None)
        height, width = (reader.take(key, lambda v: v is None, *nothing) for key in ("height", "width"))
        fields = reader.object("tiling")
        tiling = Tiling(
            core_px=fields.count("core_px", MAX_CORE_PX),
            halo_px=fields.count("halo_px", MAX_HALO_PX),
            multiple_of_px=fields.count("multiple_of_px", MAX_MULTIPLE_PX),
        )
        fields.close()
        reader.close()
        return InputSpec(name, height, width, channels, tiling)
    reader.take("tiling", lambda v: v is None, "an object or null", None)
    height, width = (reader.count(key, MAX_SIDE_PX) for key in ("height", "width"))
    spec = InputSpec(name, height, width, channels, None)
    reader.close()
    return spec


def _card(reader: Fields) -> ModelCard:
    input_spec = _input(reader.object("input"))
    taken_output = reader.object("output")
    output = OutputSpec(taken_output.text("name"), taken_output.texts("maps"))
    taken_output.close()
    evaluation = []
    for item in reader.objects("evaluation", MAX_SCORES):
        evaluation.append(
            Evaluation(item.text("dataset"), item.text("digest"), item.text("metric"), item.number("value", -1e9, 1e9))
        )
        item.close()
    card = ModelCard(
        schema_version=reader.take("schema_version", is_int, "a whole number", 0),
        name=reader.text("name"),
        version=reader.text("version"),
        license=reader.text("license"),
        description=reader.text("description"),
        input=input_spec,
        preprocessing=tuple(_step(item, STEPS) for item in reader.objects("preprocessing", MAX_STEPS)),
        output=output,
        postprocessing=_step(reader.object("postprocessing"), METHODS),
        training_nucleus_diameter_px=reader.number("training_nucleus_diameter_px", 1, 10_000),
        tolerance=reader.number("tolerance", 0, 1),
        evaluation=tuple(evaluation),
        provenance=reader.texts_by_name("provenance"),
        limitations=reader.texts("limitations"),
        views=take_view_choice(reader.object("views")) if "views" in reader.fields else None,
        score=take_score_model(reader.object("score")) if "score" in reader.fields else None,
        flags=take_flag_limits(reader.object("flags")) if "flags" in reader.fields else None,
        extensions=reader.open_object("extensions", MAX_EXTENSIONS_BYTES),
    )
    reader.close()
    if not any(problem.startswith(("input", "preprocessing")) for problem in reader.problems):
        size = (card.input.height, card.input.width)
        reader.problems.extend(conflicts_of_input(card.input.tiling, size, card.preprocessing))
    if not any(problem.startswith(("output", "postprocessing")) for problem in reader.problems):
        known = {
            "has_views": card.views is not None,
            "has_score": card.score is not None,
            "has_flags": card.flags is not None,
        }
        found = conflicts_of_output(card.output.maps, card.postprocessing, card.input.tiling, **known)
        reader.problems.extend(found)
    return card
