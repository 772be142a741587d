"""Sealed files: whatever is done to one, it is read as it was written or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from damage import damaged

from imbnas.sealed import DamagedError, open_sealed, read_record, unsealed, write_record, write_sealed


def test_content_comes_back(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a", lambda stream: [stream.write(piece) for piece in (b"one", b"", b"two" * 9)] and None)
    with open_sealed(tmp_path / "a") as stream:
        assert stream.read() == b"one" + b"two" * 9


def test_torch_reads_its_own_format_behind_the_digest(tmp_path: Path) -> None:
    state = {"step": 3, "w": torch.arange(1000.0), "rows": [{"x": 0.1}]}
    write_sealed(tmp_path / "a", lambda stream: torch.save(state, stream))
    with open_sealed(tmp_path / "a") as stream:
        found = torch.load(stream, weights_only=True)
    assert torch.equal(found["w"], state["w"])
    assert (found["step"], found["rows"]) == (3, [{"x": 0.1}])


def test_no_damaged_content_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_sealed(file, lambda stream: torch.save({"w": torch.arange(50.0)}, stream))
    for content in damaged(file.read_bytes()):
        file.write_bytes(content)
        with pytest.raises(DamagedError, match=f"^{file}: "), open_sealed(file):
            pass


def test_a_damaged_record_is_refused_or_holds_the_same_values(tmp_path: Path) -> None:
    file, record = tmp_path / "a.json", {"seconds": 1.25, "name": "ä", "steps": {"x": [1, 2.5, None]}}
    write_record(file, record)
    assert read_record(file) == record
    refused = 0
    for content in damaged(file.read_bytes(), flips=200):
        file.write_bytes(content)
        try:
            # Whitespace between values may change.
            assert read_record(file) == record
        except DamagedError as error:
            refused += 1
            assert str(error).startswith(f"{file}: ")  # noqa: PT017
    assert refused > 200


@pytest.mark.parametrize("text", ["[]", "{}", "3", "[" * 100_000, '{"a": NaN, "sha256": "x"}', '{"sha256": null}'])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(DamagedError):
        read_record(tmp_path / "a")


def test_nothing_without_end_is_sealed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path / "a", {"score": float("nan")})
    with pytest.raises(ValueError, match="digest"):
        unsealed(json.loads('{"score": 1.0}'))
    assert not list(tmp_path.iterdir())
