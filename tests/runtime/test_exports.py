"""What the package exports, and what importing it costs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import nuclei_runtime

HEAVY = {"onnxruntime", "numpy", "scipy", "skimage", "PIL", "tifffile", "typer", "rich"}
NEVER = {"tensorflow", "keras", "jax", "torch", "onnx", "tf2onnx", "pandas", "matplotlib"}


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Return the top-level packages that are loaded after running `code` in a fresh interpreter."""
    report = "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}", *arguments], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


PUBLIC = {
    *("Segmenter", "SegmenterOptions", "Segmentation", "ModelCard", "BUNDLED_MODELS", "__version__"),
    *("read_image", "open_planes", "Selection", "Plane", "plane_of", "segment_plane", "Block", "Contrast"),
    *("save_labels", "compare_labels", "LabelChanges", "Column", "describe_column"),
    *("Evidence", "Flag", "complete_flags"),
    *("replay_sample", "sample_path", "Replay", "Scale", "View"),
    *("NucleiError", "SegmentationCancelledError", "RuntimeEnvironmentError", "MissingExtraError", "ProviderError"),
    "ArgumentError",
    *("ImageError", "ImageReadError", "ImageShapeError", "ImageTooLargeError", "ImageValueError"),
    *("ModelError", "ModelNotFoundError", "ModelDigestError", "ModelFormatError", "CardError"),
}


def test_all_names_the_public_api() -> None:
    assert set(nuclei_runtime.__all__) == PUBLIC


@pytest.mark.parametrize("name", nuclei_runtime.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    exported = getattr(nuclei_runtime, name)
    assert name in dir(nuclei_runtime)
    if name not in {"BUNDLED_MODELS", "__version__"}:
        assert exported.__name__ == name
        assert exported.__module__.startswith("nuclei_runtime.")
        assert exported.__doc__


def test_the_version_is_the_installed_one() -> None:
    assert nuclei_runtime.__version__ == version("nuclei-edge")


def test_type_checkers_see_every_name() -> None:
    """They do not run `__getattr__`: each name is imported under TYPE_CHECKING as well."""
    source = ast.parse(Path(nuclei_runtime.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported | {"__version__"} == set(nuclei_runtime.__all__)


def test_a_star_import_brings_what_all_names() -> None:
    namespace: dict[str, object] = {}
    exec("from nuclei_runtime import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(nuclei_runtime.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nuclei_runtime' has no attribute 'Segmentor'"):
        nuclei_runtime.Segmentor  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_by("import nuclei_runtime")
    assert "nuclei_runtime" in loaded
    assert loaded & (HEAVY | NEVER) == set()


def test_importing_the_segmenter_loads_no_engine_yet() -> None:
    loaded = loaded_by("from nuclei_runtime import Segmenter")
    assert "numpy" in loaded
    assert loaded & ({"onnxruntime", "scipy", "skimage"} | NEVER) == set()


def test_importing_the_command_line_loads_no_engine_yet() -> None:
    loaded = loaded_by("import nuclei_runtime.cli.infer")
    assert loaded & ({"onnxruntime", "scipy", "skimage"} | NEVER) == set()


def test_segmenting_an_image_loads_no_training_framework(tiny_model: Path) -> None:
    code = (
        "import sys, numpy\nfrom nuclei_runtime import Segmenter\n"
        "image = numpy.arange(6000.0).reshape(60, 100)\n"
        "assert Segmenter(sys.argv[1]).segment(image).labels.shape == (60, 100)"
    )
    loaded = loaded_by(code, str(tiny_model))
    assert {"onnxruntime", "skimage", "scipy"} <= loaded
    assert loaded & NEVER == set()


def test_training_modules_are_not_loaded_by_the_runtime(tiny_model: Path) -> None:
    code = "import sys\nfrom nuclei_runtime.checks.doctor import diagnose\ndiagnose(sys.argv[1])"
    loaded = loaded_by(code, str(tiny_model))
    assert loaded & ({"nuclei_train", "nuclei_export"} | NEVER) == set()
