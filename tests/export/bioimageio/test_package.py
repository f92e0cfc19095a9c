"""A package for bioimage.io, as its own programs see it: valid, reproduced, the same in blocks, and documented."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from nuclei_export.bioimageio import citation
from nuclei_export.bioimageio.contrast import LOWER_PERCENT, UPPER_PERCENT, scale_range
from nuclei_export.bioimageio.package import PackageConfig, write_package
from nuclei_export.cli import export_main
from nuclei_export.errors import PackageError
from nuclei_runtime import Segmenter
from nuclei_runtime.checks.synthetic import fluorescence_field
from nuclei_runtime.errors import ResultsExistError
from nuclei_runtime.model.bundled import BUNDLED_MODEL, BUNDLED_MODELS
from nuclei_runtime.model.card import METADATA_KEY, parse_card
from nuclei_runtime.model.session import load_session
from nuclei_runtime.steps.preprocess import as_input
from nuclei_runtime.steps.step import Step
from nuclei_runtime.steps.tiling import run_tiled

MISSING = 'NOT RUN: bioimageio.core is not installed; pip install "nuclei-edge[bioimageio]"'
core = pytest.importorskip("bioimageio.core", reason=MISSING)
spec = pytest.importorskip("bioimageio.spec", reason=MISSING)

ROOT = Path(__file__).parents[3]
RunMain = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the bundled model."""
    folder = tmp_path_factory.mktemp("bioimageio") / "nuclei"
    write_package(PackageConfig(folder))
    return folder


@pytest.fixture
def large() -> NDArray[np.uint16]:
    """A field of 12 bits in 16, not square, larger than a tile, of a size that needs no padding."""
    grey = fluorescence_field(7, height=320, width=336, n_nuclei=60)[0].astype(np.uint16) * 16
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def predict(package: Path, pixels: NDArray[Any], **options: Any) -> NDArray[np.float32]:
    tensor = core.Tensor.from_numpy(pixels[np.newaxis], dims=("batch", "y", "x", "channel"))
    maps = core.predict(model=package / "rdf.yaml", inputs={"image": tensor}, **options).members["maps"].to_numpy()
    return np.asarray(maps[0])


def with_card(model: Path, path: Path, **fields: Any) -> Path:
    """A copy of a model whose card is changed."""
    proto = onnx.load(model)
    (entry,) = (entry for entry in proto.metadata_props if entry.key == METADATA_KEY)
    entry.value = replace(parse_card(entry.value, "card"), **fields).to_json()
    onnx.save(proto, path)
    return path


def test_the_spec_accepts_it(package: Path) -> None:
    description = spec.load_model_description(package, perform_io_checks=True)
    assert description.format_version.startswith("0.5.")
    assert description.validation_summary.status == "valid-format"
    # Whoever uploads a package knows a name on GitHub; docs/share.md says where to write it.
    (warning,) = (found for detail in description.validation_summary.details for found in detail.warnings)
    assert warning.msg.startswith("Missing `maintainers` or any author in `authors` with a specified `github_user`")
    card = Segmenter().card
    assert (description.name, str(description.version), description.license) == (card.name, card.version, card.license)
    (image,), (maps,) = description.inputs, description.outputs
    assert [step.id for step in image.preprocessing] == ["ensure_dtype", "scale_range", "clip", "ensure_dtype"]
    assert card.input.tiling is not None
    for axis in image.axes[1:3]:
        assert (axis.size.min, axis.size.step) == (2 * 96 + 16, card.input.tiling.multiple_of_px)
    assert [axis.halo for axis in maps.axes[1:3]] == [card.input.tiling.halo_px] * 2
    assert maps.axes[3].channel_names == list(card.output.maps)
    (tolerance,) = description.config.bioimageio.reproducibility_tolerance
    assert tolerance.absolute_tolerance == card.tolerance
    assert tolerance.relative_tolerance == tolerance.mismatched_elements_per_million == 0


def test_it_holds_the_model_file_itself_and_the_digest_of_every_file(package: Path) -> None:
    text = (package / "rdf.yaml").read_text(encoding="utf-8")
    found = dict(re.findall(r"source: (\S+)\n +sha256: (\w+)", text))
    files = {path.name: path.read_bytes() for path in package.iterdir() if path.name != "rdf.yaml"}
    assert found == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert files["weights.onnx"] == BUNDLED_MODEL.read_bytes()
    with Image.open(package / "cover.png") as cover:
        assert cover.width == 2 * cover.height
    assert len(files["cover.png"]) < 500_000


def test_core_reproduces_the_test_output(package: Path) -> None:
    summary = core.test_description(package / "rdf.yaml")
    assert summary.status == "passed", summary.details
    assert any("Reproduce test outputs" in detail.name for detail in summary.details)
    assert np.load(package / "test_output.npy").std() > 0.1  # it shows nuclei


def test_core_notices_a_difference_above_the_tolerance(package: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(package, tmp_path / "copy")
    maps = np.load(copy / "test_output.npy")
    old = hashlib.sha256((copy / "test_output.npy").read_bytes()).hexdigest()
    maps[0, 100, 100, 0] += 2e-4
    np.save(copy / "test_output.npy", maps)
    new = hashlib.sha256((copy / "test_output.npy").read_bytes()).hexdigest()
    rdf = copy / "rdf.yaml"
    rdf.write_text(rdf.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    summary = core.test_description(rdf)
    assert summary.status != "passed"
    assert any("1 of 196608 elements disagree" in error.msg for detail in summary.details for error in detail.errors)


def test_core_gives_the_same_maps_in_blocks(package: Path, large: NDArray[np.uint16]) -> None:
    """As the whole, mirrored by the halo; and within the halo of no edge, as nuclei-edge itself."""
    session = load_session()
    tiling, tolerance = session.card.input.tiling, session.card.tolerance
    assert tiling is not None
    halo = tiling.halo_px
    blocks = predict(package, large, blocksize_parameter=5)  # 96 px of each are kept
    assert blocks.shape == large.shape
    prepared = as_input(scale_range(large))
    mirrored = np.pad(prepared, ((halo, halo), (halo, halo), (0, 0)), "symmetric")
    expected = session.run(mirrored[np.newaxis])[0, halo:-halo, halo:-halo]
    np.testing.assert_allclose(blocks, expected, rtol=0, atol=tolerance)
    own = run_tiled(session.run, prepared, tiling)
    inner = (slice(halo, -halo),) * 2
    np.testing.assert_allclose(blocks[inner], own[inner], rtol=0, atol=tolerance)
    assert own[inner].std() > 0.1


def test_the_programs_in_its_documentation_run(
    package: Path, large: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an image whose size is no multiple of 16."""
    monkeypatch.chdir(package)
    first, contrast, nuclei = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.S)
    image = large[:250, :310, 0]
    names: dict[str, Any] = {"pixels": large[:250, :310], "image": image}
    exec(first, names)
    assert names["maps"].shape == (*image.shape, 3)
    exec(nuclei, names)
    n_found = Segmenter().segment(image).count
    assert n_found > 10
    assert abs(names["labels"].max() - n_found) <= 2
    exec(contrast, names)
    (own,) = Segmenter().predict([image])
    np.testing.assert_allclose(names["maps"][112:-112, 112:-112], own[112:-112, 112:-112], rtol=0, atol=1e-4)


def test_its_documentation_says_what_it_leaves_out(package: Path) -> None:
    text = (package / "README.md").read_text(encoding="utf-8")
    tiling = Segmenter().card.input.tiling
    assert tiling is not None
    for expected in (
        "structure_normalisation",
        f"percentiles {LOWER_PERCENT:g} and {UPPER_PERCENT:g}",
        "| this package |",
        "bioimage.io has no watershed",
        '"min_area_px":21',
        f"overlap by the halo of {tiling.halo_px} pixels",
        "## Validation",
        Segmenter().card.limitations[0],
    ):
        assert expected in text


def test_the_citation_is_that_of_the_project() -> None:
    from ruyaml import YAML

    cff = YAML(typ="safe").load(ROOT / "CITATION.cff")
    assert [author["name"] for author in cff["authors"]] == list(citation.AUTHORS)
    (reference,) = cff["references"]
    assert citation.TRAINING_DATA["doi"] == reference["doi"]
    for part in (reference["title"], reference["journal"], str(reference["year"]), reference["notes"]):
        assert part in citation.TRAINING_DATA["text"]


def test_the_command_packages_another_model(tiled_model: Path, tmp_path: Path, run_main: RunMain) -> None:
    folder = tmp_path / "new" / "package"
    code, out, err = run_main(
        export_main, tiled_model, "--bioimageio", folder, "--author", "A. Person", "--author", "B. Person"
    )
    assert (code, err) == (0, "")
    assert out.startswith(f"{folder}: bioimageio.core reproduces the test output")
    description = spec.load_model_description(folder)
    assert [author.name for author in description.authors] == ["A. Person", "B. Person"]
    assert description.cite == []  # that of the bundled model's data would be wrong
    assert "BBBC038v1" not in (folder / "README.md").read_text(encoding="utf-8")
    assert sorted(tmp_path.rglob(".package*")) == []


def test_the_command_exports_and_packages_in_one_go(native_run: Path, tmp_path: Path, run_main: RunMain) -> None:
    model, folder = tmp_path / "model.onnx", tmp_path / "package"
    arguments = ("--name", "mine to keep", "--bioimageio", folder, "--author", "A. Person")
    code, out, _ = run_main(export_main, native_run, model, *arguments)
    assert code == 0
    assert "report: " in out
    assert (folder / "weights.onnx").read_bytes() == model.read_bytes()
    assert spec.load_model_description(folder).name == "mine to keep"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "other"], "--name belongs to the export of a run"),
        (["--reduce-range", "--precision", "int8"], "belongs to the export of a run"),
    ],
)
def test_options_that_would_change_the_model_are_refused(
    arguments: list[str], message: str, tmp_path: Path, run_main: RunMain
) -> None:
    code, _, err = run_main(export_main, "--bioimageio", tmp_path / "package", *arguments)
    assert code == 2
    assert message in re.sub(r"[\s│]+", " ", err)
    assert not (tmp_path / "package").exists()


def test_an_export_needs_a_run_and_a_model_and_takes_no_authors(run_main: RunMain) -> None:
    code, _, err = run_main(export_main)
    assert code == 2
    assert "give the run folder and the ONNX file to write" in err
    code, _, err = run_main(export_main, "run", "model.onnx", "--author", "A. Person")
    assert code == 2
    assert "--author requires --bioimageio" in err


def test_a_package_of_a_run_without_authors_is_refused_before_the_export(tmp_path: Path, run_main: RunMain) -> None:
    code, _, err = run_main(export_main, "run", tmp_path / "model.onnx", "--bioimageio", tmp_path / "package")
    assert code == 2
    assert "a package of a run requires --author" in re.sub(r"[\s│]+", " ", err)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"name": "tin"}, "name: .* at least 5"), ({"license": "mine"}, "license"), ({"tolerance": 0.1}, "fp32")],
)
def test_what_the_spec_refuses_is_said_and_not_written(
    fields: dict[str, Any], message: str, tiled_model: Path, tmp_path: Path
) -> None:
    model = with_card(tiled_model, tmp_path / "model.onnx", **fields)
    with pytest.raises(PackageError, match=message):
        write_package(PackageConfig(tmp_path / "package", model, ("A. Person",)))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_models_that_bioimageio_has_no_words_for(tiny_model: Path, tiled_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    with pytest.raises(PackageError, match=r"takes images of 128 x 128 pixels only, and bioimage\.io has no step"):
        write_package(PackageConfig(folder, tiny_model, ("A. Person",)))
    old = (Step("percentile_normalisation", {"lower": 1.0, "upper": 99.8}),)
    with pytest.raises(PackageError, match=r"its preprocessing is percentile_normalisation; only models with struct"):
        write_package(PackageConfig(folder, with_card(tiled_model, tmp_path / "old.onnx", preprocessing=old)))
    with pytest.raises(PackageError, match=r"may differ by 0\.1 between machines.*package the fp32 model"):
        write_package(PackageConfig(folder, BUNDLED_MODELS["int8"]))
    with pytest.raises(PackageError, match="has no authors; name who made it with --author"):
        write_package(PackageConfig(folder, tiled_model))
    assert [path.name for path in tmp_path.iterdir()] == ["old.onnx"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "file"):
        with pytest.raises(ResultsExistError, match="not an empty folder"):
            write_package(PackageConfig(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_packaging_needs_neither_tensorflow_nor_a_network(tmp_path: Path, tiled_model: Path) -> None:
    program = f"""
import sys
asked = []
sys.addaudithook(lambda event, _: asked.append(event) if event.startswith(("socket.", "ssl.", "subprocess.")) else None)
from pathlib import Path
from nuclei_export.bioimageio.package import PackageConfig, write_package
write_package(PackageConfig(Path({str(tmp_path / "package")!r}), Path({str(tiled_model)!r}), ("A. Person",)))
print(asked, sorted({{"tensorflow", "keras", "torch"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"
