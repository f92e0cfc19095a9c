"""The Nextflow module: its commands are run without Nextflow, which is on no index that pip reads."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.deploy.conftest import Run

yaml = pytest.importorskip("yaml", reason="NOT RUN: PyYAML is not installed")


@pytest.fixture
def module(deploy: Path) -> Path:
    return deploy / "nextflow/nucleiedge/infer"


def commands(module: Path, section: str, **values: str) -> str:
    """The commands of `script` or `stub`, with the variables of Nextflow put in."""
    text = (module / "main.nf").read_text()
    found = re.search(rf'^    {section}:\n.*?^    """\n(.*?)^    """$', text, re.MULTILINE | re.DOTALL)
    assert found is not None
    body = re.sub(r"(?<!\\)\$\{([\w.]+)\}", lambda name: values[name[1]], found[1])
    lines = (line.removeprefix("    ") for line in body.splitlines())
    return "\n".join(lines).replace("\\\\", "\\").replace("\\$", "$")


def declared(module: Path) -> dict[str, str]:
    """The outputs that `main.nf` declares: name -> pattern of the file."""
    text = (module / "main.nf").read_text()
    return {name: file for file, name in re.findall(r'path\(?\s?"([^"]+)"\)?\s*, emit: (\w+)', text)}


@pytest.mark.parametrize("section", ["script", "stub"])
def test_every_output_is_made(
    section: str, module: Path, images: Path, tmp_path: Path, tiled_model: Path, run: Run
) -> None:
    values = {"prefix": "plate", "task.cpus": "2", "task.process": "NUCLEIEDGE_INFER"}
    values |= {"memory": "--max-memory 900MiB", "args": f"--model {tiled_model}"}
    done = run("bash", "-euo", "pipefail", "-c", commands(module, section, **values), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, pattern in declared(module).items():
        assert list(tmp_path.glob(pattern.replace("${prefix}", "plate").replace("**.", "**/*."))), name
    versions = yaml.safe_load((tmp_path / "versions.yml").read_text())
    assert versions == {"NUCLEIEDGE_INFER": {"nuclei-edge": version("nuclei-edge")}}
    if section == "script":
        assert len(list((tmp_path / "plate/labels").iterdir())) == len(list(images.iterdir()))


def test_meta_yml_describes_the_module(module: Path) -> None:
    meta = yaml.safe_load((module / "meta.yml").read_text())
    assert meta["name"] == "nucleiedge_infer"
    described = {
        name: next(key for one in files for key in (one[-1] if isinstance(one, list) else one))
        for name, files in meta["output"].items()
    }
    assert described == declared(module)
    assert set(described) == {"labels", "overlays", "nuclei", "images", "provenance", "versions"}
