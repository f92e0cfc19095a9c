"""The README: its first screen, its length, and the commands in it, which must work."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from nuclei_runtime.checks.demo import write_demo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]

INFER = 'pip install ".[cpu]" && nuclei-demo demo && nuclei-infer demo/images --out results'
TEST = 'pip install -e ".[dev]" && pytest'
FIRST_SCREEN_LINES = 25
MAX_WORDS = 750


def words(text: str) -> list[str]:
    """Return the words that a reader reads: no code blocks, no targets of links, no table rules."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return [word for word in text.split() if re.search(r"\w", word)]


def test_the_first_screen_holds_a_sentence_a_picture_five_bullets_and_both_commands() -> None:
    first_screen = README.splitlines()[:FIRST_SCREEN_LINES]
    assert first_screen[0] == "# nuclei-edge"
    assert first_screen[2].count(". ") == 0, "one sentence"
    assert "](docs/overlay.png)" in first_screen[4]
    assert sum(line.startswith("- ") for line in first_screen) == 5
    assert INFER in first_screen


def test_the_first_two_blocks_are_the_two_commands() -> None:
    assert re.findall(r"```(\w*)\n(.*?)\n```", README, re.DOTALL)[:2] == [("", INFER), ("", TEST)]


def test_it_can_be_read_in_a_few_minutes() -> None:
    assert len(words(README)) <= MAX_WORDS


def test_it_says_when_not_to_use_the_software() -> None:
    section = README.partition("## When not to use it\n")[2].partition("\n## ")[0].lower()
    for weakness in ("diagnosis", "sparse", "--diameter", "stain", "gpu"):
        assert weakness in section


def test_the_integration_runs_the_second_command() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == TEST
    assert "set -euo pipefail" in lines


def test_the_wheel_test_runs_the_first_command() -> None:
    """It takes the README's first block and replaces the clone by the wheel."""
    wheel_test = (ROOT / "tests" / "test_wheel.py").read_text(encoding="utf-8")
    assert '"README.md"' in wheel_test
    assert '".[cpu]"' in wheel_test


def test_every_command_is_named() -> None:
    assert set(re.findall(r"\bnuclei-[a-z]+", README)) - {"nuclei-edge"} == set(SCRIPTS)


def test_its_python_runs_on_a_demo_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)
    write_demo(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    exec(code, namespace)
    result = namespace["result"]
    assert result.labels.dtype == np.int32  # type: ignore[attr-defined]
    assert result.count == result.labels.max() > 0  # type: ignore[attr-defined]
