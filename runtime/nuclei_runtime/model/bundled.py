"""The models that come with this package."""

from pathlib import Path

BUNDLED_MODELS = {
    precision: Path(__file__).parents[1] / "models" / name
    for precision, name in (("fp32", "nuclei.onnx"), ("int8", "nuclei.int8.onnx"))
}
"""The models that come with this package, by precision: the same network."""

BUNDLED_MODEL = BUNDLED_MODELS["fp32"]
"""The model that is used where none is named."""
