"""A step whose networks or batches do not fit into this machine's memory says so before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_chain

from imbnas.errors import UserError
from imbnas.params.config import parse
from imbnas.run import machine


def check(step: str, **dotted: Any) -> None:
    machine.check_memory(step, parse(tiny_chain.changed(**dotted), "p"))


def test_the_parameter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available", lambda: 2**30)
    wide = {"name": "shufflenet", "stages": {"channels": [30_000] * 2, "repeats": [1, 1], "strides": [1, 2]}}
    for step in ("supernet", "adapt", "search"):
        check(step)
        with pytest.raises(
            UserError, match=r"^space has widths .* 7 GiB at the least, expected at most 1, the memory of"
        ):
            check(step, space=wide)
    large = {"dataset": "mnist", "root": "digits", "image_size": 1024}
    for step, name in (("retrain", "retrain"), ("evaluate", "evaluate")):
        with pytest.raises(UserError, match=rf"^{name}\.batch_size is 4096, with images of 1024 pixels"):
            check(step, target=large, runtime={"device": "cpu"}, **{f"{name}__batch_size": 4096})
    # Elsewhere than on the processor it is the device's memory that counts.
    check("retrain", target=large, runtime={"device": "auto"}, retrain__batch_size=4096)


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_LIMITS", (limit, tmp_path / "absent"))
    whole = machine.available()
    limit.write_text("max\n")
    assert machine.available() == whole
    limit.write_text("12345\n")
    assert machine.available() == 12345
