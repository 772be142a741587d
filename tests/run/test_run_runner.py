"""A step is imported with the collector of garbage at rest, which works again from then on."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from imbnas.run import runner


@pytest.mark.parametrize("more", ["", "raise KeyError(RESTS)"])
def test_nothing_collects_while_a_step_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    name = f"a_step_that_{'fails' if more else 'works'}"
    (tmp_path / f"{name}.py").write_text(f"import gc\nRESTS = not gc.isenabled()\n{more}\n")
    monkeypatch.syspath_prepend(tmp_path)
    if more:
        with pytest.raises(KeyError, match="True"):
            runner._imported(name)
    else:
        assert runner._imported(name).RESTS
    assert gc.isenabled()
