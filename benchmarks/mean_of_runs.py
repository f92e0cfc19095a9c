"""Write a run folder whose weights are the mean of several runs' weights.

    python -m benchmarks.mean_of_runs run8 run9 run10 mean --watershed-of nuclei.onnx
    python -m benchmarks.fit_card DATA mean

The runs must have the same network, and each must have begun with the weights of the one before, or nearly so: only
then is the mean of their weights a network that works (Wortsman et al. 2022, Model soups, ICML,
https://proceedings.mlr.press/v162/wortsman22a.html). Everything else in the folder is that of the last run, apart from
its scores, and what was fitted to its maps, which benchmarks.fit_card fits again. The parameters of the watershed come
from another model if one is given.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from nuclei_runtime.errors import NucleiError
from nuclei_runtime.segmentation.segmenter import Segmenter
from nuclei_runtime.steps.tiling import Tiling
from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow
from nuclei_train.fitting.start import read_start
from nuclei_train.recipes.native import INFERENCE_CHECKPOINT, QUANTISATION_FILE, Native, keep_maps
from nuclei_train.run_folder import (
    BEST_CHECKPOINT,
    BEST_CHECKPOINT_H5,
    HISTORY_FILE,
    read_run,
    write_run,
)


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of the recipe native, the last one last.")],
    out: Annotated[Path, typer.Argument(help="The run folder to write.")],
    watershed_of: Annotated[
        Path | None, typer.Option(help="Take the parameters of the watershed from this ONNX file.")
    ] = None,
) -> None:
    """Average the weights of runs."""
    watershed = None if watershed_of is None else Segmenter(watershed_of).card.postprocessing
    with quiet_tensorflow():
        recipe = Native()
        starts = [read_start(run, recipe) for run in runs]
        described = read_run(runs[-1])

        best = recipe.build()
        layers = zip(*(start.weights or () for start in starts), strict=True)
        best.set_weights([np.mean(same, axis=0, dtype=np.float64).astype(np.float32) for same in layers])
        inference = recipe.build_inference()
        keep_maps(best.get_weights(), inference)

        out.mkdir(parents=True)
        best.save(out / BEST_CHECKPOINT)
        best.save(out / BEST_CHECKPOINT_H5)
        inference.save(out / INFERENCE_CHECKPOINT)
        for name in (QUANTISATION_FILE, HISTORY_FILE, "curves.png"):
            shutil.copyfile(runs[-1] / name, out / name)

    digests = [start.digest for start in starts]
    card = described["export"]["card"]
    card["provenance"]["mean_of_sha256"] = " ".join(digests)
    # What was fitted to the maps of the last run does not hold for those of the mean.
    for name in ("views", "score", "flags"):
        card.pop(name, None)
    network = recipe.network
    card["input"]["tiling"] = asdict(Tiling(recipe.tile_core_px, network.halo_px, network.multiple_of_px))
    if watershed is not None:
        card["postprocessing"] = asdict(watershed)
    described.pop("paths", None)
    described |= {"scores": {}, "search": [], "mean_of": [{"checkpoint_sha256": digest} for digest in digests]}
    write_run(out, described)
    print(
        f"{out}: SHA-256 of {BEST_CHECKPOINT_H5} {hashlib.sha256((out / BEST_CHECKPOINT_H5).read_bytes()).hexdigest()}"
    )


if __name__ == "__main__":
    try:
        typer.run(main)
    except NucleiError as error:
        sys.exit(str(error))
