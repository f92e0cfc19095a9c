"""The progress bar: it shows progress on a terminal and nothing elsewhere, and never writes to standard output."""

from __future__ import annotations

import io

import pytest

from nuclei_runtime.cli.progress import OutcomeReporter, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def draw(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, total: int | None) -> str:
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar("reading images", total) as update:
        update(1)
        update(3, total=4)
        update(3)
    return stderr.getvalue()


@pytest.mark.parametrize("total", [4, None])
def test_a_terminal_shows_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], total: int | None
) -> None:
    shown = draw(monkeypatch, Terminal(), total)
    assert "reading images" in shown
    assert "75%" in shown
    assert capsys.readouterr().out == ""


def test_a_pipe_shows_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert draw(monkeypatch, io.StringIO(), 4) == ""
    assert capsys.readouterr().out == ""


def test_the_totals_count_the_folders_that_nobody_could_list() -> None:
    reporter = OutcomeReporter(as_json=False)
    assert reporter.summary(0, 2, 0) == "0 of 0 images, 0 nuclei, 0 failed; other files skipped: 2"
    assert reporter.summary(0, 2, 1).endswith("other files skipped: 2; folders that could not be listed: 1")
