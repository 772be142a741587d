"""`imbnas params show` and docs/parameters.md: every parameter, from the models alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from params_trees import DEFAULT, OTHERS, ROOT, leaves

from imbnas.cli import main
from imbnas.params.config import defaults, load
from imbnas.params.reference import page, parameters

PAGE = ROOT / "docs" / "parameters.md"


def show(monkeypatch: pytest.MonkeyPatch, *words: str, code: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["imbnas", "params", "show", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert int(stopped.value.code or 0) == code


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make sync"


def test_every_parameter_is_told_with_default_values_and_meaning() -> None:
    known = parameters()
    assert {each.name: each.default for each in known} == dict(leaves(defaults()))
    assert [each.name for each in known if not each.values or len(each.meaning) < 4] == []
    rows = {line.split("`")[1]: line for line in page().splitlines() if line.startswith("| `")}
    assert list(rows) == [each.name for each in known]
    assert "from 0 below 1" in rows["retrain.weighting.beta"]
    assert rows["retrain.weighting.beta"].endswith("| Cui et al. 2019 |")
    assert "| auto or whole number from 0" in rows["supernet.augment.pad"]
    assert "or text such as 0.6x or null |" in rows["search.max_macs"]
    # The default of its place, not of its class.
    assert "| `0.02` |" in rows["adapt.finetune.optimizer.lr"]


def test_the_words_of_a_choice_are_those_it_takes() -> None:
    words = {each.name: each.words for each in parameters()}
    wrong = [
        name for name, value in OTHERS.items() if isinstance(value, str) and words[name] and value not in words[name]
    ]
    assert wrong == []
    assert sum(bool(each) for each in words.values()) > 50


def test_show_prints_the_effective_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("adapt: {finetune: {epochs: 30}}\n", encoding="utf-8")
    show(monkeypatch, "--config", str(file))
    lines = capsys.readouterr().out.splitlines()
    assert [line[2:].split(" = ")[0] for line in lines] == list(dict(leaves(defaults())))
    assert [line for line in lines if line.startswith("*")] == ["* adapt.finetune.epochs = 30  # default 20"]
    assert max(map(len, lines)) <= 120
    show(monkeypatch, "adapt.finetune.optimizer", "--config", str(file))
    assert capsys.readouterr().out.splitlines()[0] == "  adapt.finetune.optimizer.lr = 0.02  # Peak learning rate"
    show(monkeypatch, "adapt.finetune.epochs", "--config", str(file))
    told = capsys.readouterr().out
    assert told.startswith("adapt.finetune.epochs = 30\n\nPasses over the training rows.\n\ndefault: 20\n")


def test_show_changed_prints_what_differs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    show(monkeypatch, "--changed", "--config", str(DEFAULT))
    found = [line.split(" = ")[0].removeprefix("* ") for line in capsys.readouterr().out.splitlines()]
    default, own = dict(leaves(defaults())), dict(leaves(load(DEFAULT).tree()))
    assert found == [name for name in own if own[name] != default[name]]
    show(monkeypatch, "retrain", "--changed", "--config", str(DEFAULT))
    assert capsys.readouterr().out == "* retrain.batch_size = 32  # default 64\n"


def test_an_unknown_section_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    show(monkeypatch, "adapt.haed", "--config", str(DEFAULT), code=2)
    assert capsys.readouterr().err == "error: adapt.haed: unknown parameter, did you mean adapt.head?\n"
