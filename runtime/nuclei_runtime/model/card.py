"""The model card: all that running a model takes, as JSON inside the ONNX file.

It stands in the file's ``metadata_props`` under `METADATA_KEY`, as canonical JSON (UTF-8, sorted keys, no spaces).
The vocabulary is bioimage.io's where bioimage.io has a word. `parse_card` reports every problem at once, each with
its location.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from nuclei_runtime.errors import CardError
from nuclei_runtime.json_fields import Fields, canonical_json, is_int, parse_json, shown
from nuclei_runtime.steps.instances import METHODS
from nuclei_runtime.steps.preprocess import CHANNELS, STEPS
from nuclei_runtime.steps.step import MAPS, MAX_SIDE_PX, InstanceMethod, PreprocessingStep, Step
from nuclei_runtime.steps.tiling import Tiling

METADATA_KEY = "nuclei.model_card"
SCHEMA_VERSION = 1
MAX_CARD_BYTES = 1 << 20
"""A card is a page of text; anything near a megabyte is not one."""

MAX_PROBLEMS = 100
"""More are counted and not spelt out: a message is for people."""

# What a card may ask for, so that none asks for more than a machine has. All are far beyond any use; of the native
# recipe core_px is 512, halo_px 112 and multiple_of_px 16.
MAX_CORE_PX = 4096
"""Side of a tile's core."""
MAX_HALO_PX = 1024
MAX_MULTIPLE_PX = 256
MAX_STEPS = 8
"""Steps of preprocessing."""
MAX_SCORES = 1000
"""Entries of ``evaluation``."""


MAX_EXTENSIONS_BYTES = 1 << 16
"""Of ``extensions`` as canonical JSON."""


@dataclass(frozen=True)
class InputSpec:
    """The network's input: batch, rows, columns, channels (axes ``byxc``), float32.

    Attributes
    ----------
    name : str
        Of the ONNX input.
    height, width : int or None
        The fixed size in pixels that the last preprocessing step must give; both None where the network takes any.
    channels : int
    tiling : Tiling or None
        How an image goes through a network that takes any size; None where the size is fixed.
    """

    name: str
    height: int | None
    width: int | None
    channels: int
    tiling: Tiling | None


@dataclass(frozen=True)
class OutputSpec:
    """The network's output: batch, rows, columns, maps (axes ``byxc``), float32 in [0, 1], of the input's size.

    Attributes
    ----------
    name : str
        Of the ONNX output.
    maps : tuple of str
        What the channels are: the first ones of `nuclei_runtime.steps.step.MAPS`.
    """

    name: str
    maps: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """One score, as `nuclei-evaluate` measured it.

    Attributes
    ----------
    dataset : str
        The set of images, with its split.
    digest : str
        SHA-256 over the identifiers and bytes of the images and masks that were scored.
    metric : str
    value : float
    """

    dataset: str
    digest: str
    metric: str
    value: float


@dataclass(frozen=True)
class ModelCard:
    """What a model is, what it takes and gives, and what it is worth.

    Attributes
    ----------
    schema_version : int
        `SCHEMA_VERSION`; any other is refused.
    name, version, license, description : str
    input : InputSpec
    preprocessing : tuple of Step
        In order; identifiers from `nuclei_runtime.steps.preprocess.STEPS`.
    output : OutputSpec
    postprocessing : Step
        Identifier from `nuclei_runtime.steps.instances.METHODS`.
    training_nucleus_diameter_px : float
        Median diameter, in pixels of the original images, of a disk with the area of a training nucleus.
    tolerance : float
        Largest absolute difference in probability between this file on any provider and the checkpoint that it
        was exported from.
    evaluation : tuple of Evaluation
    provenance : dict of str to str
        Digests, versions, seed, recipe.
    limitations : tuple of str
        Sentences for people.
    extensions : mapping
        JSON of anybody's, read-only: what this version of nuclei-edge does not know and may ignore. A field that must
        not be ignored asks for another `SCHEMA_VERSION`.
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
    extensions: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> str:
        """Return the card as canonical JSON, without `extensions` where there are none."""
        fields = asdict(replace(self, extensions={}))
        del fields["extensions"]
        if self.extensions:
            fields["extensions"] = self.extensions
        return canonical_json(fields)


def parse_card(text: str, source: str) -> ModelCard:
    """Read a card.

    Parameters
    ----------
    text : str
        JSON.
    source : str
        What the card came from, for the message.

    Raises
    ------
    CardError
        With every problem that the card has.
    """
    # A lone surrogate, which JSON can spell and UTF-8 cannot, counts as one byte here: it is refused later.
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
                "use the nuclei-edge that the model was made for",
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
    return Step(step_id, values)


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
        extensions=reader.open_object("extensions", MAX_EXTENSIONS_BYTES),
    )
    reader.close()
    if not any(problem.startswith(("input", "preprocessing")) for problem in reader.problems):
        _check_steps_fit(card, reader.problems)
    if not any(problem.startswith(("output", "postprocessing")) for problem in reader.problems):
        needed = METHODS[card.postprocessing.id].maps
        if card.output.maps[: len(needed)] != needed or card.output.maps != MAPS[: len(card.output.maps)]:
            found = shown(", ".join(card.output.maps)) if card.output.maps else "none"
            reader.problems.append(
                f"output.maps: expected the first of {', '.join(MAPS)} and at least {', '.join(needed)}, which "
                f"{card.postprocessing.id} needs; found {found}"
            )
    return card


def _check_steps_fit(card: ModelCard, problems: list[str]) -> None:
    """Note what does not fit together of input and preprocessing, each of which is valid."""
    specs = [STEPS[step.id] for step in card.preprocessing]
    tiling = card.input.tiling
    size = (card.input.height, card.input.width)
    if tiling is not None:
        problems.extend(
            f"preprocessing: {step.id} has no place where the network takes any size"
            for step, spec in zip(card.preprocessing, specs, strict=True)
            if spec.fit is None
        )
        if tiling.core_px % tiling.multiple_of_px or tiling.halo_px % tiling.multiple_of_px:
            problems.append(
                f"input.tiling: core_px and halo_px must be multiples of multiple_of_px, {tiling.multiple_of_px}; "
                f"found {tiling.core_px} and {tiling.halo_px}"
            )
    elif not specs or specs[-1].output_size is None:
        sizing = " or ".join(name for name, spec in STEPS.items() if spec.output_size is not None)
        problems.append(f"preprocessing: the last step must be {sizing}, because the input has a fixed size")
    elif (given := specs[-1].output_size(card.preprocessing[-1].kwargs)) != size:
        problems.append(
            f"preprocessing: {card.preprocessing[-1].id} gives {given[0]} x {given[1]}, "
            f"the input takes {size[0]} x {size[1]}"
        )
    for index, (step, spec) in enumerate(zip(card.preprocessing, specs, strict=True)):
        if spec.check is not None and (problem := spec.check(step.kwargs)) is not None:
            problems.append(f"preprocessing[{index}].kwargs: {problem}")
