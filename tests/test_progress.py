"""The bars of a log: trainings that take turns have a line each on one display."""

from __future__ import annotations

import sys

import pytest

from imbnas.progress import Log


def test_bars_that_end_in_another_order_than_they_began_share_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log = Log("test")
    first, second = log.bar("a", 3), log.bar("b", 3, 1)
    first.__enter__().advance()
    display = log._bar
    assert display is not None
    bar = second.__enter__()
    assert log._bar is display
    first.__exit__(None, None, None)
    bar.advance(note="loss 1")
    assert [(task.description, task.completed) for task in display.tasks] == [("test: b", 2)]
    log("a line above the bar")
    second.__exit__(None, None, None)
    assert log._bar is None
    assert not display.live.is_started
