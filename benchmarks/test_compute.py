"""Compare the network with a matrix product, with its other precision, and with Keras."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.environments import ROOT
from benchmarks.side_by_side import SideBySide
from nuclei_runtime.model.bundled import BUNDLED_MODELS
from nuclei_runtime.model.session import load_session

MATRIX = 2048
TILE_PX = 512
CHECKPOINT = ROOT / "train" / "nuclei_train" / "models" / "model_for_nuclei.h5"


@pytest.mark.parametrize("precision", BUNDLED_MODELS)
def test_network_and_sgemm(side_by_side: SideBySide, precision: str) -> None:
    """NumPy takes its number of threads from OPENBLAS_NUM_THREADS; without it, the number of cores."""
    import onnx

    from nuclei_export.lint import flops_per_pixel

    rng = np.random.default_rng(0)
    left, right = rng.random((2, MATRIX, MATRIX), np.float32)
    image = rng.random((1, TILE_PX, TILE_PX, 3), np.float32)
    sessions = {name: load_session(BUNDLED_MODELS[name]) for name in ("fp32", precision)}
    side_by_side(
        lambda: sessions[precision].run(image),
        {"sgemm": lambda: left @ right, "fp32": lambda: sessions["fp32"].run(image)},
        rounds=15,
        megapixels=TILE_PX**2 / 1e6,
        # For int8, too, count those of the float32 graph: the same multiply-adds in other nodes.
        flops=flops_per_pixel(onnx.load(BUNDLED_MODELS["fp32"])) * TILE_PX**2,
        sgemm_flops=2 * MATRIX**3,
    )


@pytest.mark.parametrize("batch", [1, 4])
def test_keras_and_onnx_runtime(side_by_side: SideBySide, batch: int) -> None:
    """The checkpoint that the bundled model was exported from, at the size of its training, and its float32 export."""
    from nuclei_train.fitting.quiet_tensorflow import quiet_tensorflow

    with quiet_tensorflow():
        import keras

        model = keras.models.load_model(CHECKPOINT, compile=False)
    images = np.random.default_rng(0).random((batch, *model.input_shape[1:]), np.float32)
    session = load_session(BUNDLED_MODELS["fp32"])
    side_by_side(
        lambda: model.predict(images, verbose=0),
        {"onnxruntime": lambda: session.run(images)},
        megapixels=images[..., 0].size / 1e6,
    )
