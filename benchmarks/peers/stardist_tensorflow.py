"""StarDist in TensorFlow, called as in its documentation."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.peers.harness import Pass, one_by_one, serve


def load(arguments: Namespace) -> Pass:
    """Load a StarDist model folder."""
    from csbdeep.utils import normalize
    from stardist.models import StarDist2D

    folder = Path(arguments.model)
    model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    return one_by_one(
        lambda grey: model.predict_instances(normalize(grey, 1, 99.8), show_tile_progress=False, verbose=False)[0]
    )


if __name__ == "__main__":
    serve(load, "--model")
