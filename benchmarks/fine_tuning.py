"""How much a fine-tuning gains from how few images, and what it forgets.

    python -m benchmarks.fine_tuning DATA OUT --original DATA [--start RUN] [--draw SPLIT]... [--score SPLIT]...

DATA are annotated images of a kind that the start was not trained on. The images of the splits --score, or else a fixed
part of those of the splits --draw, are held out of every training and scored. From the others, 5, 10, 20 and 50 images
are drawn, as far as there are so many, three times each. Each draw is fitted from the same weights with the recipe
`fine-tuning`, all of its epochs: without the choice among epochs on held-out images by which `nuclei-train` keeps the
start where no fit is better. All scores are those of nuclei as `nuclei-infer` finds them. --original names the data
that the start was trained on: half of each batch is cut from their images of `train`, and those of another split show
what is forgotten. With --alone, the draws are also fitted without them.

Each training is a JSON file in OUT: an interrupted run resumes. The table is printed and written to
OUT/fine_tuning.md. OUT/fine_tuning.svg is the curve: the points are the draws, the lines their means, and the bars the
95% intervals of the gain over the images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plots import draw_svg
from nuclei_runtime.errors import NucleiError
from nuclei_train.data.opening import open_for_training
from nuclei_train.data.samples import Sample
from nuclei_train.data.split import Split
from nuclei_train.evaluation.comparison import Comparison, compare
from nuclei_train.fine_tuning.held_out import Score
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow
from nuclei_train.fitting.start import BUNDLED, card_of, read_card, read_start
from nuclei_train.recipes.fine_tuning import FineTuning, FineTuningMaterial
from nuclei_train.recipes.recipe import Replay, Sources

IMAGES, SEEDS, HELD_OUT = (5, 10, 20, 50), 3, 12
KINDS = "held out", "original"
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Asked:
    """What the command was asked for."""

    data: Path
    out: Path
    original: Path
    start: Path
    draw: tuple[str, ...]
    score: tuple[str, ...]
    images: tuple[int, ...]
    seeds: int
    held_out: int
    original_split: str
    n_original: int
    alone: bool


def samples_of(data: Path, splits: Sequence[str], *, or_all: bool = False) -> tuple[list[Sample], dict[str, str]]:
    """Return the images with truth of some splits, or all if there is no table and `or_all`; and their modalities."""
    dataset, table = open_for_training(data, lambda _sentence: None)
    if table is None:
        if not or_all:
            raise SystemExit(f"{data} has no split table, but the images of {', '.join(splits)} are wanted")
        return [sample for sample in dataset.samples if sample.has_truth], {}
    chosen = [sample for sample in dataset.samples if sample.has_truth and table.split.get(sample.image_id) in splits]
    return chosen, table.modality


def load(asked: Asked, recipe: FineTuning) -> FineTuningMaterial:
    """Read the images to draw from, those held out, and the original ones."""
    pool, modality = samples_of(asked.data, asked.draw, or_all=not asked.score)
    if asked.score:
        held_out, _ = samples_of(asked.data, asked.score)
    else:
        order = np.random.default_rng(HELD_OUT_SEED).permutation(len(pool))
        held_out, pool = ([pool[one] for one in sorted(part)] for part in np.split(order, [asked.held_out]))
    original, original_modality = samples_of(asked.original, ("train",))
    scored, _ = samples_of(asked.original, (asked.original_split,))
    replay = Replay("original", "", tuple(original), tuple(scored), original_modality)
    split = Split(tuple(pool), tuple(held_out), "benchmark", "")
    return recipe.load(recipe.choose(Sources(split, modality, (), None, replay)), lambda: None)


def measure(asked: Asked) -> None:
    """Fit and score all draws that are not in OUT yet."""
    from nuclei_train.fine_tuning.tuner import Tuner

    recipe = FineTuning(max_original=asked.n_original)
    start = read_start(asked.start, recipe)
    assert start.weights is not None
    tuner, card = Tuner(recipe, start.weights), card_of(read_card(start.path))
    material = load(asked, recipe)
    n_pool = material.n_to_fit
    held_out = range(n_pool, len(material.images.ids))
    print(f"{n_pool} images to draw from, {len(held_out)} held out", file=sys.stderr)

    def score() -> dict[str, Any]:
        images = material.images.select(held_out)
        assert material.original is not None
        scored = {
            "held out": tuner.score([material.samples[place] for place in held_out], images, card),
            "original": tuner.score(material.original_samples, material.original, card),
        }
        return {name: [vars_of(one) for one in scores] for name, scores in scored.items()}

    def once(path: Path, fitted: Sequence[int], seed: int, source: FineTuningMaterial) -> None:
        if path.is_file():
            return
        began = time.perf_counter()
        if fitted:
            settings = replace(recipe, seed=recipe.seed + seed)
            tuner.fit(
                replace(source, settings=settings).batches(fitted, start.skipped_epochs), recipe.epochs, lambda: False
            )
        fitting = time.perf_counter() - began
        document = {"seconds": round(fitting, 1), "drawn": [material.images.ids[one] for one in fitted], **score()}
        path.write_text(json.dumps(document), encoding="utf-8")
        print(f"{path.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)

    once(asked.out / "before.json", (), 0, material)
    for seed in range(1, asked.seeds + 1):
        order = np.random.default_rng(seed).permutation(n_pool)
        for n_images in (n for n in asked.images if n <= n_pool):
            fitted = sorted(order[:n_images].tolist())
            once(asked.out / f"replay_{n_images}_{seed}.json", fitted, seed, material)
            if asked.alone:
                alone = replace(material, replayed=None)
                once(asked.out / f"alone_{n_images}_{seed}.json", fitted, seed, alone)


def vars_of(score: Score) -> dict[str, float]:
    return {"mean AP": round(score.mean_ap, 5), "AP@0.5": round(score.ap_50, 5)}


def mean_aps(document: dict[str, Any], name: str) -> list[float]:
    return [one["mean AP"] for one in document[name]]


def read(out: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Return the documents of all trainings, by their kind and number of images."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*_*_*.json")):
        kind, n_images, _ = path.stem.split("_")
        found.setdefault((kind, int(n_images)), []).append(json.loads(path.read_text(encoding="utf-8")))
    return dict(sorted(found.items(), key=lambda one: (one[0][0] != "replay", one[0][1])))


def table(out: Path) -> Iterator[str]:
    """Yield the table. A gain is the mean over all draws; its interval says what other images would change."""
    yield "| images | replay | held out: mean AP | gain (95% interval) | each draw | original: mean AP | change |"
    yield "|---|---|---|---|---|---|---|"
    before = json.loads((out / "before.json").read_text(encoding="utf-8"))
    start = [float(np.mean(mean_aps(before, name))) for name in KINDS]
    yield f"| 0 | | {start[0]:.3f} | | | {start[1]:.3f} | |"
    for (kind, n_images), documents in read(out).items():
        held, original = (over_draws(before, documents, name) for name in KINDS)
        each = (over_draws(before, [one], "held out").difference for one in documents)
        yield (
            f"| {n_images} | {'yes' if kind == 'replay' else 'no'} | {held.after:.3f} | {in_words(held)} | "
            f"{', '.join(f'{gain:+.3f}' for gain in each)} | {original.after:.3f} | {in_words(original)} |"
        )


def over_draws(before: dict[str, Any], documents: Sequence[dict[str, Any]], name: str) -> Comparison:
    """Compare each image before with its mean over some trainings."""
    return compare(mean_aps(before, name), np.mean([mean_aps(one, name) for one in documents], axis=0).tolist())


def in_words(found: Comparison) -> str:
    """Return the gain and its interval, which only enough images have."""
    if found.interval is None:
        return f"{found.difference:+.3f}"
    low, high = found.interval
    return f"{found.difference:+.3f} ({low:+.3f} to {high:+.3f})"


def draw(out: Path) -> None:
    """Draw the curve: each draw a point, their means a line with the 95% interval of the gain."""
    draw_svg()
    from matplotlib import pyplot

    before = json.loads((out / "before.json").read_text(encoding="utf-8"))
    figure, axes = pyplot.subplots(figsize=(5, 3.4), layout="constrained")
    labels = dict(zip(KINDS, ("images of the new kind, held out", "original data"), strict=True))
    for (name, label), colour in zip(labels.items(), ("tab:blue", "tab:gray"), strict=True):
        start = float(np.mean(mean_aps(before, name)))
        for kind, style, added in (("replay", "o-", ""), ("alone", "s--", ", without replay")):
            found = {n_images: documents for (of, n_images), documents in read(out).items() if of == kind}
            if not found:
                continue
            means = {n_images: over_draws(before, documents, name) for n_images, documents in found.items()}
            for n_images, documents in found.items():
                values = [float(np.mean(mean_aps(one, name))) for one in documents]
                axes.plot([n_images] * len(values), values, style[0], color=colour, markersize=3, alpha=0.5)
            axes.plot(
                [0, *means], [start, *(one.after for one in means.values())], style[1:], color=colour,
                label=label + added,
            )  # fmt: skip
            for n_images, one in means.items():
                if one.interval is not None:
                    ends = [one.before + end for end in one.interval]
                    axes.plot([n_images] * 2, ends, color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
    numbers = sorted({n_images for _, n_images in read(out)})
    axes.set(xlabel="images fitted", xticks=[0, *numbers], ylabel="mean AP", ylim=(0, None))
    axes.legend(fontsize="small")
    figure.savefig(out / "fine_tuning.svg", metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--original", type=Path, required=True, help="the data that the start was trained on")
    parser.add_argument("--start", type=Path, default=BUNDLED, help="a run folder (default: the bundled model)")
    parser.add_argument("--draw", action="append", metavar="SPLIT", help="may be repeated (default: train)")
    parser.add_argument("--score", action="append", metavar="SPLIT", default=[], help="may be repeated")
    parser.add_argument("--images", type=int, action="append", help=f"may be repeated (default: {IMAGES})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"draws of each number (default: {SEEDS})")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help=f"without --score (default: {HELD_OUT})")
    parser.add_argument("--original-split", default="val", help="of the original data, to score (default: val)")
    parser.add_argument("--original-images", type=int, default=40, help="of them at most (default: 40)")
    parser.add_argument("--alone", action="store_true", help="fit each draw also without replay")
    found = parser.parse_args()
    splits = tuple(found.draw or ("train",))
    images = tuple(found.images or IMAGES)
    asked = Asked(
        found.data, found.out, found.original, found.start, splits, tuple(found.score), images, found.seeds,
        found.held_out, found.original_split, found.original_images, found.alone,
    )  # fmt: skip
    asked.out.mkdir(parents=True, exist_ok=True)
    with quiet_tensorflow():
        import keras  # noqa: F401
    try:
        measure(asked)
    except NucleiError as error:
        sys.exit(f"error: {error}")
    text = "\n".join(table(asked.out)) + "\n"
    (asked.out / "fine_tuning.md").write_text(text, encoding="utf-8")
    draw(asked.out)
    print(text)


if __name__ == "__main__":
    main()
