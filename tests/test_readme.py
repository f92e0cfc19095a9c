"""What the README says can be done can be done: its first screen is what the tests run, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]

INFER = 'pip install ".[cpu]" && nuclei-demo demo && nuclei-infer demo/images --out results'
TEST = 'pip install -e ".[dev]" && pytest'
FIRST_SCREEN_LINES = 25


def blocks(text: str) -> list[str]:
    """Return the fenced blocks that are not of another language than a shell's."""
    return [body for language, body in re.findall(r"```(\w*)\n(.*?)\n```", text, re.DOTALL) if not language]


def commands(text: str) -> list[str]:
    """Return every nuclei-... command of the blocks, without its comment."""
    lines = (line.partition(" #")[0] for block in blocks(text) for line in block.splitlines())
    found = [part.strip() for line in lines for part in line.split("&&")]
    return [command for command in found if command.startswith("nuclei-")]


@cache
def help_of(script: str) -> str:
    path = Path(sysconfig.get_path("scripts")) / script
    return subprocess.run([path, "--help"], capture_output=True, text=True, encoding="utf-8", check=True).stdout


def test_the_first_screen_holds_the_two_commands() -> None:
    assert blocks(README)[:2] == [INFER, TEST]
    first_screen = README.splitlines()[:FIRST_SCREEN_LINES]
    assert INFER in first_screen
    assert TEST in first_screen


def test_the_integration_runs_the_second_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == TEST
    assert "set -euo pipefail" in lines


def test_the_wheel_test_runs_the_first_command() -> None:
    """It takes the README's first block and puts the wheel in the place of the clone."""
    wheel_test = (ROOT / "tests" / "test_wheel.py").read_text(encoding="utf-8")
    assert '"README.md"' in wheel_test
    assert '".[cpu]"' in wheel_test


@pytest.mark.parametrize("command", sorted({*commands(README), *commands(CONTRIBUTING)}))
def test_a_command_exists_with_the_options_that_are_named(command: str) -> None:
    script, *words = command.split()
    assert script in SCRIPTS
    for word in words:
        if word.startswith("-"):
            assert re.search(rf"{word}\b", help_of(script)), f"{script} has no option {word}"


def test_every_command_is_named() -> None:
    assert {command.split()[0] for command in commands(README)} | set(re.findall(r"`(nuclei-\w+)", README)) >= set(
        SCRIPTS
    )


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_what_is_linked_or_named_is_there(text: str) -> None:
    linked = re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text)
    named = re.findall(r"[`\s(]((?:benchmarks|docs|tests|runtime|train|export)/[\w./-]+\.\w+)", text)
    assert [path for path in {*linked, *named} if not (ROOT / path).exists()] == []
    anchors = {
        re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_python_of_the_readme_runs() -> None:
    """On a picture of its own."""
    import numpy as np

    (code,) = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)
    namespace: dict[str, object] = {"image": np.random.default_rng(0).random((60, 80))}
    exec(code, namespace)
    assert namespace["result"].labels.shape == (60, 80)  # type: ignore[attr-defined]
