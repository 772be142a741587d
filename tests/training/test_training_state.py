"""Saved training states: locked, atomic, refused by name when broken, and saved on a signal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from imbnas.errors import Interrupted, UserError
from imbnas.sealed import write_sealed
from imbnas.training.state import ResumeState


def state_at(tmp_path: Path, interval: float = 1e9) -> ResumeState:
    return ResumeState(tmp_path / "abc", "net", interval)


def test_round_trip_and_finish_leave_no_file(tmp_path: Path) -> None:
    state = state_at(tmp_path)
    with state.held():
        assert state.load(print) is None
        state.save({"step": 3, "model": {"w": torch.arange(3)}})
        loaded = state.load(print)
        assert loaded is not None
        assert loaded["step"] == 3
        assert torch.equal(loaded["model"]["w"], torch.arange(3))
        state.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    with state_at(tmp_path).held(), pytest.raises(UserError, match="another process"), state_at(tmp_path).held():
        pass


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x80\x04cnot\nreal\n."])
def test_a_broken_state_is_told_by_name_and_not_used(tmp_path: Path, content: bytes) -> None:
    state, told = state_at(tmp_path), []
    state.path.write_bytes(content)
    assert state.load(told.append) is None
    assert told == [f"{state.path}: not a whole training state (not a file that imbnas sealed), begun anew"]


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    state, told = state_at(tmp_path), []
    write_sealed(state.path, lambda stream: torch.save({"step": Evil()}, stream))
    assert state.load(told.append) is None
    assert "not a whole training state (Weights only load failed" in told[0]
    assert not (tmp_path / "owned").exists()


def test_interval_decides_when_to_save(tmp_path: Path) -> None:
    patient, eager = state_at(tmp_path), ResumeState(tmp_path / "xyz", "net", 0.0)
    with patient.held(), eager.held():
        patient.tick(lambda: {"step": 1})
        eager.tick(lambda: {"step": 1})
    assert not patient.path.exists()
    assert eager.path.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_at_the_next_tick(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    state = state_at(tmp_path)
    with pytest.raises(Interrupted), state.held():
        os.kill(os.getpid(), number)
        state.tick(lambda: {"step": 7})
    loaded = state.load(print)
    assert loaded == {"step": 7}
    assert signal.getsignal(number) == before
