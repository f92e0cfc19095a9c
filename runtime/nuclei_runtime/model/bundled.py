"""The models that are bundled with this package."""

from pathlib import Path

BUNDLED_MODELS = {
    precision: Path(__file__).parents[1] / "models" / name
    for precision, name in (("fp32", "nuclei.onnx"), ("int8", "nuclei.int8.onnx"))
}
"""The models that are bundled with this package, by precision; both are the same network."""

BUNDLED_MODEL = BUNDLED_MODELS["fp32"]
"""The model that is used by default."""
