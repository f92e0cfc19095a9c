"""The progress bar: it shows progress on a terminal and nothing elsewhere, and never writes to standard output."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from nuclei_runtime.cli.progress import OutcomeReporter, format_duration, progress_bar
from nuclei_runtime.results.outcome import PlaneOutcome
from nuclei_runtime.runs.image_file import FileOutcome


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


def test_a_terminal_shows_the_blocks_of_a_large_image_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress_bar("images", 2) as update:
        update.report_blocks("[a].tif", 3, 12)
        update.report_blocks("[a].tif", 6, 12)
    shown = terminal.getvalue()
    assert "continued: [a].tif: 3 of 12 blocks were already done" in shown
    assert "[a].tif, blocks" in shown
    assert "6/12" in shown
    assert "-:--:--" in shown or "0:00:" in shown


def test_without_a_terminal_a_line_says_now_and_then_how_far_a_large_image_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr, now = io.StringIO(), [1000.0]
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr("nuclei_runtime.cli.progress.time.monotonic", lambda: now[0])
    with progress_bar("images", 1) as update:
        for done in range(4, 13):
            update.report_blocks("a.svs", done, 12)
            now[0] += 25
        update.report_blocks("b.svs", 0, 3)
    assert stderr.getvalue().splitlines() == [
        "continued: a.svs: 4 of 12 blocks were already done",
        "a.svs: 7 of 12 blocks, about 2 min left",
        "a.svs: 10 of 12 blocks, about 50 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (7169, "119 min"), (7260, "2 h 1 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


def test_the_totals_count_the_folders_that_nobody_could_list() -> None:
    reporter = OutcomeReporter(as_json=False)
    assert reporter.summary(0, 2, 0) == "0 of 0 images, 0 nuclei, 0 failed; other files skipped: 2"
    assert reporter.summary(0, 2, 1).endswith("other files skipped: 2; folders and plates that could not be listed: 1")


def planes(*n_nuclei: int, times: int = 0, depths: int = 0) -> FileOutcome:
    """A file with a plane for each number of nuclei."""
    indices = [(t, z) for t in (range(times) if times else [None]) for z in (range(depths) if depths else [None])]
    return FileOutcome(
        tuple(PlaneOutcome("a.tif", "ok", time=t, z=z, n_nuclei=n) for n, (t, z) in zip(n_nuclei, indices, strict=True))
    )


def test_the_totals_say_what_is_complete_what_is_in_part_and_what_the_nuclei_are() -> None:
    image, frames, stack = planes(1), planes(8, 9, times=2), planes(8, 8, 9, 8, 8, depths=5)
    both = planes(1, 0, 0, 0, times=2, depths=2)
    failed = FileOutcome((PlaneOutcome("b.tif", "failed", reason="empty"),))
    in_part = FileOutcome((*frames.planes, PlaneOutcome("a.tif", "failed", time=2, reason="damaged")))
    kept = replace(image, is_kept=True)
    for outcomes, counts in (
        ([image], "1 of 1 image, 1 nucleus, 0 failed"),
        ([stack], "1 of 1 image, 41 sections of nuclei in 5 planes of Z stacks, 0 failed"),
        ([frames], "1 of 1 image, 17 nuclei in 2 frames of time series, 0 failed"),
        ([both, failed], "1 of 2 images, 1 section of nuclei in 4 planes of Z stacks, 1 failed"),
        ([in_part], "0 of 1 image complete, 1 segmented in part, 17 nuclei in 2 frames of time series, 0 failed"),
        (
            [kept, in_part, failed],
            "1 of 3 images complete (1 done before), 1 segmented in part, 1 nucleus, 17 nuclei in 2 frames of time "
            "series, 1 failed",
        ),
        (
            [image, frames, stack],
            "3 of 3 images, 1 nucleus, 17 nuclei in 2 frames of time series, 41 sections of nuclei in 5 planes of Z "
            "stacks, 0 failed",
        ),
    ):
        reporter = OutcomeReporter(as_json=False)
        for outcome in outcomes:
            reporter.report(outcome)
        assert list(reporter.flagged()) == []
        assert reporter.summary(len(outcomes), 0, 0) == counts + "; other files skipped: 0"


def test_a_note_that_all_planes_of_a_file_share_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    planes = [PlaneOutcome("a.tif", "ok", time=time, note="of another size") for time in range(3)]
    OutcomeReporter(as_json=False).report(FileOutcome(tuple(planes)))
    assert capsys.readouterr().err == "note: a.tif: of another size\n"
    OutcomeReporter(as_json=False).report(FileOutcome((*planes[:1], PlaneOutcome("a.tif", "ok", time=1))))
    assert capsys.readouterr().err == "note: a.tif, time 0: of another size\n"
