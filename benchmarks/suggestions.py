"""Whether the images that `nuclei-explore --suggest` chooses teach a model more than images drawn at random.

    python -m benchmarks.suggestions DATA OUT --start RUN --model MODEL.onnx [--pool SPLIT]... [--score SPLIT]...

DATA are annotated, and their truth is hidden from the choice. In each draw, a random half of the images of the splits
--pool is the pool. From it, N images are suggested and N are drawn at random. Each set is fitted from the weights in
RUN, which MODEL.onnx was exported from, with the recipe `fine-tuning` and all of its epochs: none is chosen. Half of
each batch is replayed from the images that RUN was trained on, which are those of --pool that are not of the modalities
--unseen. What is scored takes part in no fit and no choice: the images of the splits --score and, of the other half of
--pool, those of the modalities --unseen. No other split is read.

Each fit is a JSON file in OUT: an interrupted run resumes. The table is printed and written to OUT/suggestions.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nuclei_runtime.errors import NucleiError
from nuclei_runtime.runs.config import RunConfig
from nuclei_runtime.runs.run import load_worker
from nuclei_runtime.runs.workers import Worker
from nuclei_runtime.segmentation.options import SegmenterOptions
from nuclei_train.data.opening import open_for_training
from nuclei_train.data.samples import Sample
from nuclei_train.data.split import Split
from nuclei_train.exploration.candidates import look_at_samples
from nuclei_train.exploration.choosing import choose
from nuclei_train.exploration.ruler import ruler_of
from nuclei_train.exploration.suggest import coordinates_of, doubts
from nuclei_train.fine_tuning.tuner import Tuner
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow
from nuclei_train.fitting.start import card_of, read_card, read_start
from nuclei_train.recipes.fine_tuning import FineTuning, FineTuningMaterial
from nuclei_train.recipes.recipe import Replay, Sources

SUGGESTED, AT_RANDOM = "suggested", "random"


@dataclass(frozen=True)
class Asked:
    """What the command was asked for."""

    data: Path
    out: Path
    start: Path
    model: Path
    pool: tuple[str, ...]
    score: tuple[str, ...]
    unseen: tuple[str, ...]
    images: int
    draws: int


@dataclass(frozen=True)
class Images:
    """The images of the experiment: those of the pool, then those that are scored."""

    samples: tuple[Sample, ...]
    modalities: tuple[str, ...]
    n_pool: int

    def half(self, draw: int) -> list[int]:
        """Return the places of the images in the pool of a draw."""
        order = np.random.default_rng(draw).permutation(self.n_pool)
        return sorted(order[: self.n_pool // 2].tolist())

    def scored(self, draw: int, unseen: Sequence[str]) -> list[int]:
        """Return the places of the images that are scored in a draw."""
        half = set(self.half(draw))
        other = [one for one in range(self.n_pool) if one not in half and self.modalities[one] in unseen]
        return [*other, *range(self.n_pool, len(self.samples))]


def open_images(asked: Asked) -> Images:
    """Find the images of the splits that are asked for."""
    dataset, table = open_for_training(asked.data, lambda _sentence: None)
    if table is None:
        sys.exit(f"error: {asked.data}: has no split table")
    by_split: dict[bool, list[Sample]] = {True: [], False: []}
    for sample in dataset.samples:
        split = table.split.get(sample.image_id)
        if sample.has_truth and split in (*asked.pool, *asked.score):
            by_split[split in asked.pool].append(sample)
    samples = (*by_split[True], *by_split[False])
    return Images(samples, tuple(table.modality.get(one.image_id, "") for one in samples), len(by_split[True]))


def original_images(asked: Asked, images: Images) -> Iterator[Sample]:
    """Yield the images that the start was trained on."""
    for sample, modality in zip(images.samples[: images.n_pool], images.modalities, strict=False):
        if modality not in asked.unseen:
            yield sample


def select(asked: Asked, images: Images) -> dict[str, list[int]]:
    """Choose the images of each draw, once; the choices are kept in OUT."""
    path = asked.out / "selections.json"
    if path.is_file():
        kept: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    config = RunConfig((), asked.out, SegmenterOptions(asked.model, threads=1))
    worker = load_worker(config)
    assert isinstance(worker, Worker)
    pool = images.samples[: images.n_pool]
    seen = look_at_samples(pool, worker, 1, lambda: None)
    if len(seen.found) < len(pool):
        sys.exit(f"error: left out: {seen.empty}, {seen.failed}")
    ruler = ruler_of(worker.segmenter.card, [one.appearance for one in seen.found])
    found: dict[str, list[int]] = {}
    for draw in range(1, asked.draws + 1):
        half = images.half(draw)
        candidates = [seen.found[place] for place in half]
        choices = choose(
            coordinates_of(candidates, ruler), doubts(candidates, ruler), asked.images, coordinates_of([], ruler)
        )
        found[f"{SUGGESTED}_{draw}"] = [half[one.index] for one in choices]
        drawn = np.random.default_rng(1000 + draw).permutation(half)[: asked.images]
        found[f"{AT_RANDOM}_{draw}"] = sorted(drawn.tolist())
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


def measure(asked: Asked, images: Images, selections: dict[str, list[int]]) -> None:
    """Fit and score all selections that are not in OUT yet, draw by draw."""
    recipe = FineTuning()
    start = read_start(asked.start, recipe)
    assert start.weights is not None
    tuner, card = Tuner(recipe, start.weights), card_of(read_card(start.path))
    split = Split(images.samples[: images.n_pool], images.samples[images.n_pool :], "benchmark", "")
    replay = Replay("original", "", tuple(original_images(asked, images)), (), {})
    sources = recipe.choose(Sources(split, {}, (), None, replay))
    material: FineTuningMaterial = recipe.load(sources, lambda: None)

    def score(places: Sequence[int]) -> dict[str, dict[str, float]]:
        scores = tuner.score([material.samples[place] for place in places], material.images.select(places), card)
        return {
            material.images.ids[place]: {"mean AP": round(one.mean_ap, 5), "AP@0.5": round(one.ap_50, 5)}
            for place, one in zip(places, scores, strict=True)
        }

    def once(name: str, fitted: Sequence[int], scored: Sequence[int]) -> None:
        path = asked.out / f"{name}.json"
        if path.is_file():
            return
        began = time.perf_counter()
        if fitted:
            tuner.fit(material.batches(sorted(fitted), start.skipped_epochs), recipe.epochs, lambda: False)
        counts = Counter(images.modalities[place] for place in fitted)
        document = {
            "fitted": [material.images.ids[place] for place in fitted],
            "modalities": dict(counts),
            "scores": score(scored),
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        print(f"{name}: {dict(counts)}, {time.perf_counter() - began:.0f} s", file=sys.stderr)

    every = {place for draw in range(1, asked.draws + 1) for place in images.scored(draw, asked.unseen)}
    once("before", (), sorted(every))
    for draw in range(1, asked.draws + 1):
        for kind in (SUGGESTED, AT_RANDOM):
            once(f"{kind}_{draw}", selections[f"{kind}_{draw}"], images.scored(draw, asked.unseen))


def table(asked: Asked, images: Images) -> Iterator[str]:
    """Yield the table: of each draw, the mean AP before and after, and what was chosen."""
    modality = dict(zip((one.image_id for one in images.samples), images.modalities, strict=True))
    held_out = {one.image_id for one in images.samples[images.n_pool :]}
    before = _read(asked.out / "before.json")["scores"]
    yield (
        "| draw | unseen among suggested | unseen among random | held-out: before | suggested | random | "
        "unseen: before | suggested | random |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    rows = []
    for draw in range(1, asked.draws + 1):
        paths = [asked.out / f"{kind}_{draw}.json" for kind in (SUGGESTED, AT_RANDOM)]
        if not all(path.is_file() for path in paths):
            break
        fits = [_read(path) for path in paths]
        n_unseen = [sum(one["modalities"].get(name, 0) for name in asked.unseen) for one in fits]
        scored = fits[0]["scores"]
        groups = ([one for one in scored if one in held_out], [one for one in scored if modality[one] in asked.unseen])
        means = [
            float(np.mean([scores[one]["mean AP"] for one in group]))
            for group in groups
            for scores in (before, *(one["scores"] for one in fits))
        ]
        rows.append([*n_unseen, *means])
        yield f"| {draw} | {n_unseen[0]} | {n_unseen[1]} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |"
    if rows:
        mean = np.mean(rows, axis=0)
        yield f"| mean | {mean[0]:.1f} | {mean[1]:.1f} | " + " | ".join(f"{one:.3f}" for one in mean[2:]) + " |"


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=Path, required=True, help="a run folder")
    parser.add_argument("--model", type=Path, required=True, help="what nuclei-export made of it")
    parser.add_argument("--pool", action="append", metavar="SPLIT", required=True, help="may be repeated")
    parser.add_argument("--score", action="append", metavar="SPLIT", required=True, help="may be repeated")
    parser.add_argument("--unseen", action="append", metavar="MODALITY", required=True, help="may be repeated")
    parser.add_argument("--images", type=int, default=20, help="suggested, and drawn at random (default: 20)")
    parser.add_argument("--draws", type=int, default=5)
    found = parser.parse_args()
    asked = Asked(
        found.data, found.out, found.start, found.model, tuple(found.pool), tuple(found.score), tuple(found.unseen),
        found.images, found.draws,
    )  # fmt: skip
    asked.out.mkdir(parents=True, exist_ok=True)
    try:
        images = open_images(asked)
        selections = select(asked, images)
        with quiet_tensorflow():
            measure(asked, images, selections)
    except NucleiError as error:
        sys.exit(f"error: {error}")
    text = "\n".join(table(asked, images)) + "\n"
    (asked.out / "suggestions.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
