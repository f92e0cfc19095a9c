"""The container file: hadolint finds nothing, and what it copies, installs and starts exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.deploy.conftest import Run, need_tool

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def lines(deploy: Path) -> list[str]:
    return (deploy / "container/Containerfile").read_text().splitlines()


def test_hadolint_finds_nothing(deploy: Path, tmp_path: Path, lines: list[str], run: Run) -> None:
    done = run(need_tool("hadolint"), deploy / "container/Containerfile")
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Containerfile").write_text("\n".join(lines).replace("USER 10001:10001", "USER root"))
    done = run("hadolint", "--no-color", tmp_path / "Containerfile")
    assert "DL3002" in done.stdout  # the last user is root


def test_it_starts_as_a_user_without_rights(lines: list[str]) -> None:
    last = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    (user,) = (line.removeprefix("USER ") for line in last if line.startswith("USER"))
    assert all(int(number) > 0 for number in user.split(":"))
    (entry,) = (line for line in last if line.startswith("ENTRYPOINT"))
    assert entry == 'ENTRYPOINT ["nuclei-infer"]'
    assert "nuclei-infer" in PROJECT["project"]["scripts"]


def test_all_packages_and_extras_are_there(lines: list[str]) -> None:
    copied = {word for line in lines if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {package.split("/")[0] for package in packages} <= copied
    (extras,) = (line.removeprefix("ARG EXTRAS=") for line in lines if line.startswith("ARG EXTRAS"))
    assert set(extras.split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_all_recipes_name_this_version(deploy: Path) -> None:
    found = {
        path.relative_to(deploy).as_posix(): versions
        for path in deploy.rglob("*")
        if path.is_file() and (versions := re.findall(r"nuclei-edge(?:\[[\w,]+\]==|:)(\d[\w.]*)", path.read_text()))
    }
    assert {"container/Containerfile", "kubernetes/job.yaml", "kubernetes/dask.yaml"} < set(found)
    assert {version for versions in found.values() for version in versions} == {PROJECT["project"]["version"]}
