"""What a user sees of long work: on a terminal, in a file, and how the time left is told."""

import io
import logging
import os
import re

import pytest

from advrec.run import log, progress
from advrec.run.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_elsewhere_than_on_a_terminal_there_is_a_line_now_and_then(clock):
    stream = io.StringIO()
    shown = Progress("attack m", 100, "tuples", done=20, stream=stream)
    for _ in range(40):
        clock[0] += 0.5
        shown.advance(2, "success 10.0 %")
    shown.close()
    first, *lines = stream.getvalue().splitlines()
    assert first == "attack m: 20/100 tuples done before"
    assert lines == [
        "attack m: 60/100 tuples, 4 tuples/s, 10 s left, success 10.0 %",
        "attack m: 100/100 tuples, 4 tuples/s, 20 s, success 10.0 %",
    ]


def test_a_time_left_that_is_not_known_is_not_said(clock):
    known = [None, 90.0]
    shown = Progress("x", 3, "blocks", left=lambda now: known.pop(0), stream=io.StringIO())
    clock[0] += 10
    shown.done = 2
    assert shown.text(clock[0]) == "x: 2/3 blocks, 0.2 blocks/s"
    assert shown.text(clock[0]) == "x: 2/3 blocks, 0.2 blocks/s, 1 min 30 s left"


def test_a_terminal_shows_what_there_is_and_the_note_below_it(monkeypatch):
    """On one of 80 columns, too."""
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    shown = Progress("attack m", 4, "tuples", stream=stream)
    shown.advance(1, "success 25.0 %")
    shown.close()
    *_, last, note, _ = stream.getvalue().split("\n")
    assert "attack m: 1/4 tuples, " in last
    assert "success" not in last
    assert "success 25.0 %" in note
    assert "\x1b[?25h" in stream.getvalue(), "the cursor is shown again"


def test_a_log_that_cannot_be_written_stops_no_work(tmp_path):
    with log.kept(tmp_path / "no" / "directory" / "advrec.log"):
        logging.getLogger("advrec.x").info("said to nobody")
    with log.kept(tmp_path / "advrec.log"):
        logging.getLogger("advrec.x").info("written")
    logging.getLogger("advrec.x").info("over")
    with pytest.raises(KeyboardInterrupt), log.kept(tmp_path / "advrec.log"):
        raise KeyboardInterrupt
    begins, line, again, ends = (tmp_path / "advrec.log").read_text().splitlines()
    assert begins.endswith(f"INFO process {os.getpid()} begins")
    assert again.split()[1:] == begins.split()[1:]
    assert "ends by KeyboardInterrupt" in ends
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO written", line)
