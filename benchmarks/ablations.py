"""Train the recipe `native` without one ingredient at a time, to measure what each contributes on `val`.

    python benchmarks/ablations.py DATA OUT [--steps N] [--only NAME]... [--leave-out MODALITY[,MODALITY]...]...
        [--start CHECKPOINT --learning-rate RATE]

All variants have the same short schedule and, except for one, the same seed. With --start, all begin with the same
weights. Each has a run folder in OUT: an interrupted run is resumed, and a finished one is not trained again. As in
every training, the parameters of instance segmentation are chosen on `val`, and the scores are those of that search.
With --leave-out, two more variants are trained without any image of some modalities of the split table, with and
without augmentation of stains, and are scored on the images of these modalities in `train` and `val`. No other split is
ever read.

The tables are printed and written to OUT/ablations.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nuclei_runtime.errors import NucleiError
from nuclei_runtime.metrics import match, mean_image_ap, pool
from nuclei_runtime.steps.instances import find_instances
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import Tiling
from nuclei_train.data.opening import open_for_training
from nuclei_train.data.split import select
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow
from nuclei_train.fitting.reporter import Reporter
from nuclei_train.networks.losses import LossParts
from nuclei_train.recipes.native import INFERENCE_CHECKPOINT, Native, predict_maps
from nuclei_train.recipes.native_material import load_labelled
from nuclei_train.run_folder import RUN_FILE, read_run

REFERENCE = "reference"
STEPS = 1500
"""Far too few to converge, but enough to show what matters."""


def shortened(recipe: Native, steps: int) -> Native:
    """Return the recipe with a schedule of this many steps, rounded up to whole epochs no longer than its own."""
    steps_per_epoch = min(recipe.steps_per_epoch, steps)
    epochs = -(-steps // steps_per_epoch)
    return replace(recipe, steps_per_epoch=steps_per_epoch, epochs=epochs)


def variants(reference: Native) -> dict[str, Native]:
    """Return, by name, the reference, the reference with another seed, and variants that differ in one ingredient."""
    augmentation = reference.augmentation
    return {
        REFERENCE: reference,
        "another seed": replace(reference, seed=reference.seed + 1),  # smaller differences mean nothing
        "no scaling": replace(reference, augmentation=replace(augmentation, scale=(1.0, 1.0))),
        "no rotation": replace(reference, augmentation=replace(augmentation, rotate=False)),
        "no light": replace(reference, augmentation=replace(augmentation, light=False)),
        "no stain": replace(reference, augmentation=replace(augmentation, stain=False)),
        "no border": replace(reference, loss=LossParts(border=False)),
        "no offsets": replace(reference, loss=LossParts(offsets=False)),
        "no Dice": replace(reference, loss=LossParts(dice=False)),
        "not balanced": replace(reference, balanced=False),
        "16 filters": replace(reference, filters=16),
        "32 filters": replace(reference, filters=32),
        "residual U-Net": replace(reference, architecture="residual_unet"),
        "plain U-Net, 16 filters": replace(reference, architecture="unet", filters=16),
    }


def without(reference: Native, modalities: Sequence[str]) -> dict[str, Native]:
    """Return the two variants that never see certain modalities."""
    unseen, name = replace(reference, leave_out=tuple(modalities)), f"without {' and '.join(modalities)}"
    no_stain = replace(unseen, augmentation=replace(unseen.augmentation, stain=False))
    return {name: unseen, f"{name}, no stain": no_stain}


class PrintingReporter(Reporter):
    """Prints what a training says."""

    def say(self, sentence: str) -> None:
        print(sentence, file=sys.stderr)


def train_once(data: Path, folder: Path, recipe: Native, start: Path | None) -> dict[str, Any]:
    """Train, resume or reuse a finished run; return its run.json."""
    import keras

    from nuclei_train.fitting.fit import train
    from nuclei_train.fitting.preparing import TrainingConfig

    if (folder / RUN_FILE).is_file():
        run = read_run(folder)
        if run["status"] == "complete" and run["recipe"] == json.loads(json.dumps(asdict(recipe))):
            return run
    keras.backend.clear_session()
    train(TrainingConfig(data, folder, recipe, resume=True, start=start), PrintingReporter())
    return read_run(folder)


def score_on(data: Path, folder: Path, recipe: Native) -> dict[str, float]:
    """Score a finished run on the images of `train` and `val` that it left out."""
    import keras

    dataset, table = open_for_training(data, lambda _sentence: None)  # the training has already mentioned it
    assert table is not None  # or the training without the modality would have failed
    samples = [sample for sample in select(dataset, table) if table.modality[sample.image_id] in recipe.leave_out]
    images = load_labelled(samples, table.modality, recipe.normalisation, lambda: None)
    card = read_run(folder)["export"]["card"]
    tiling, postprocessing = Tiling(**card["input"]["tiling"]), Step(**card["postprocessing"])
    network = keras.models.load_model(folder / INFERENCE_CHECKPOINT, compile=False)
    matchings = [
        match(labels, find_instances(predict_maps(network, image, tiling), postprocessing))
        for image, labels in zip(images.images, images.labels, strict=True)
    ]
    per_image, pooled = mean_image_ap(matchings), pool(matchings)
    return {
        "images": len(matchings),
        "nuclei": pooled.n_true,
        "mean AP": float(per_image.mean()),
        "AP@0.5": float(per_image[0]),
        "AP@0.5 pooled": float(pooled.ap()[0]),
    }


def run_folder_of(out: Path, name: str) -> Path:
    return out / name.replace(",", "").replace(" ", "_")


def table_of_variants(runs: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table with one row per run."""
    yield "| variant | parameters | kFLOP per pixel | steps | `val` mean AP | `val` AP@0.5 | minus the reference |"
    yield "|---|---|---|---|---|---|---|"
    reference = runs.get(REFERENCE)
    for name, run in runs.items():
        scores, recipe = run["scores"]["val"], run["recipe"]
        difference = f"{scores['mean AP'] - reference['scores']['val']['mean AP']:+.4f}" if reference else "?"
        yield (
            f"| {name} | {run['parameters']:,} | {run['kflop_per_pixel']:.1f} | "
            f"{recipe['epochs'] * recipe['steps_per_epoch']:,} | {scores['mean AP']:.4f} | {scores['AP@0.5']:.4f} | "
            f"{difference} |"
        )


def table_of_unseen(rows: Iterable[tuple[str, dict[str, float]]]) -> Iterator[str]:
    """Yield a Markdown table of runs and their scores on the modalities that they never saw."""
    yield "| variant, scored on what it never saw | images | nuclei | mean AP | AP@0.5 | AP@0.5 pooled |"
    yield "|---|---|---|---|---|---|"
    for name, s in rows:
        shown = " | ".join(f"{s[metric]:.4f}" for metric in ("mean AP", "AP@0.5", "AP@0.5 pooled"))
        yield f"| {name} | {s['images']} | {s['nuclei']:,} | {shown} |"


def ablate(
    data: Path,
    out: Path,
    reference: Native,
    only: Sequence[str],
    left_out: Sequence[Sequence[str]],
    start: Path | None = None,
) -> str:
    """Train all or the named variants, and those without some modalities; return the tables."""
    chosen = {name: recipe for name, recipe in variants(reference).items() if not only or name in only}
    runs = {name: train_once(data, run_folder_of(out, name), recipe, start) for name, recipe in chosen.items()}
    unseen = []
    for modalities in left_out:
        for name, recipe in without(reference, modalities).items():
            folder = run_folder_of(out, name)
            train_once(data, folder, recipe, start)
            unseen.append((name, score_on(data, folder, recipe)))
    lines = [*table_of_variants(runs)]
    if unseen:
        lines += ["", *table_of_unseen(unseen)]
    return "\n".join(lines) + "\n"


def main() -> None:
    names = list(variants(Native()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps per training (default: {STEPS})")
    parser.add_argument("--only", action="append", choices=names, default=[], help="may be repeated")
    parser.add_argument("--leave-out", action="append", default=[], metavar="MODALITY[,MODALITY]...")
    parser.add_argument("--start", type=Path, metavar="CHECKPOINT", help="whose weights all trainings begin with")
    parser.add_argument("--learning-rate", type=float, metavar="RATE", help="default: that of the recipe")
    asked = parser.parse_args()
    reference = shortened(Native(), asked.steps)
    if asked.learning_rate is not None:
        reference = replace(reference, learning_rate=asked.learning_rate)
    left_out = [modalities.split(",") for modalities in asked.leave_out]
    with quiet_tensorflow():
        import nuclei_train.fitting.fit  # noqa: F401
    try:
        text = ablate(asked.data, asked.out, reference, asked.only, left_out, asked.start)
    except NucleiError as error:
        sys.exit(f"error: {error}")
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "ablations.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
