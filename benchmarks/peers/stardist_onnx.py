"""StarDist's network in ONNX Runtime, with StarDist's own suppression and rendering of polygons."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.harness import Pass, one_by_one, serve


def load(arguments: Namespace) -> Pass:
    """Load ``model.onnx``, ``config.json`` and ``thresholds.json`` of a StarDist model folder."""
    import onnxruntime
    from stardist.geometry import polygons_to_label
    from stardist.nms import non_maximum_suppression

    folder = Path(arguments.model)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    thresholds = json.loads((folder / "thresholds.json").read_text(encoding="utf-8"))
    grid = tuple(config["grid"])
    multiples = [2**depth * step for depth, step in zip(config["unet_n_depth"] * np.ones(2, int), grid, strict=True)]
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(folder / "model.onnx", settings, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name

    def predict(grey: NDArray[np.uint8]) -> NDArray[Any]:
        low, high = np.percentile(grey, (1, 99.8))
        scaled = (grey.astype(np.float32) - np.float32(low)) / np.float32(high - low + 1e-20)
        padding = [(0, -length % multiple) for length, multiple in zip(grey.shape, multiples, strict=True)]
        padded = np.pad(scaled, padding, mode="reflect")
        # The probability has one channel, the distances have one per ray.
        probability, distances = sorted(
            session.run(None, {source: padded[np.newaxis, :, :, np.newaxis]}), key=lambda output: output.shape[-1]
        )
        kept = tuple(slice(-(-length // step)) for length, step in zip(grey.shape, grid, strict=True))
        points, scores, rays = non_maximum_suppression(
            np.maximum(distances[0][kept], 1e-3),
            probability[0, ..., 0][kept],
            grid=grid,
            b=2,
            prob_thresh=thresholds["prob"],
            nms_thresh=thresholds["nms"],
            verbose=False,
        )
        return np.asarray(polygons_to_label(rays, points, prob=scores, shape=grey.shape), np.int32)

    return one_by_one(predict)


if __name__ == "__main__":
    serve(load, "--model")
