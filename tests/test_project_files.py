"""The files that hosts and tools read: workflows, issue forms, the citation, and the hooks before a commit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"


def actionlint(workflow: Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which("actionlint", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    assert found is not None, 'actionlint is not installed; pip install -e ".[dev]" brings it'
    # Not shellcheck and pyflakes: whether they are installed differs from machine to machine.
    command = [found, "-shellcheck=", "-pyflakes=", "-no-color", workflow]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check_schema(schema: str, *files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_the_workflow_is_valid() -> None:
    done = actionlint(WORKFLOW)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("runs-on: ubuntu-latest", "runs-on: ubuntu-first", 'label "ubuntu-first" is unknown'),
        ("matrix.python", "matrix.pyhton", 'property "pyhton" is not defined'),
        ("contents: read", "contents: reads", '"reads" is invalid'),
    ],
)
def test_a_mistake_in_a_workflow_is_found(right: str, wrong: str, finding: str, tmp_path: Path) -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "wrong.yml").write_text(text.replace(right, wrong), encoding="utf-8")
    done = actionlint(tmp_path / "wrong.yml")
    assert done.returncode == 1
    assert finding in done.stdout


def test_the_workflow_tries_every_system_and_every_supported_python() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    runtime, everything = re.findall(r"python: \[(.*)\]", text)
    assert runtime == '"3.11", "3.12", "3.13", "3.14"'
    assert everything == '"3.11", "3.12", "3.13"'
    assert PROJECT["requires-python"] == ">=3.11"
    assert re.findall(r"os: \[(.*)\]", text) == ["ubuntu-latest, windows-latest, macos-latest"] * 2
    assert set(re.findall(r'pip install -e "\.\[(\w+)\]"', text)) <= set(PROJECT["optional-dependencies"])


def test_the_issue_forms_are_valid() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [form.stem for form in forms] == ["accuracy", "bug", "image"]
    done = check_schema("github-issue-forms", *forms)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_citation_is_valid_and_of_this_version(tmp_path: Path) -> None:
    citation = ROOT / "CITATION.cff"
    done = check_schema("citation-file-format", citation)
    assert done.returncode == 0, done.stdout + done.stderr
    text = citation.read_text(encoding="utf-8")
    assert f"\nversion: {PROJECT['version']}\n" in text
    assert f"\nlicense: {PROJECT['license']}\n" in text

    (tmp_path / "CITATION.cff").write_text(text.replace("authors:", "writers:", 1), encoding="utf-8")
    assert check_schema("citation-file-format", tmp_path / "CITATION.cff").returncode == 1


def test_the_hooks_before_a_commit_run_what_the_tests_run() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"entry: (.*)", text) == ["ruff check --fix", "ruff format", "mypy", "lint-imports", "actionlint"]
    assert set(re.findall(r"language: (.*)", text)) == {"system"}  # with the versions that pyproject.toml asks for
