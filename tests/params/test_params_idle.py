"""Options that are set and have no effect are named; defaults that are spelled out are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from imbnas import cli_project
from imbnas.cli import check
from imbnas.errors import UserError
from imbnas.params.config import Params, defaults, parse
from imbnas.params.idle import RULES, idle
from imbnas.params.truth import load_truth


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"search": {"table_column": "test"}}, ["search.table_column"]),
        ({"search": {"table_column": "test", "table": "tables/t.csv", "method": "random"}}, []),
        ({"retrain": {"finetune": {"epochs": 3}}}, ["retrain.finetune"]),
        ({"retrain": {"finetune": {"epochs": 3}, "init": "handed"}}, []),
        ({"retrain": {"distill": {"weight": 0.5}}}, ["retrain.distill.weight"]),
        ({"retrain": {"distill": {"weight": 0.5, "teacher": "largest"}}}, []),
        ({"search": {"shifting": {"batch_size": 9}}}, ["search.shifting.batch_size"]),
        ({"search": {"shifting": {"batch_size": 9, "updates": 1}}}, []),
        ({"search": {"candidates": 9}}, ["search.candidates"]),
        ({"search": {"candidates": 9, "method": "tpe"}}, []),
        ({"adapt": {"finetune": {"epochs": 3}}}, ["adapt.finetune"]),
        ({"adapt": {"finetune": {"epochs": 3}, "strategy": "finetune"}}, []),
        ({"space": {"mobile": {"kernels": [3]}}}, ["space.mobile"]),
        ({"space": {"nasbench201": {"per_stage": True}}}, ["space.nasbench201"]),
        (
            {
                "space": {"name": "nasbench201", "last_channels": None},
                "supernet": {"sampling": "uniform"},
                "adapt": {"strategy": "scratch", "sampling": "uniform"},
                "search": {
                    "method": "darts",
                    "max_macs": None,
                    "darts": {"optimization": "one-level", "share": 0.8},
                },
            },
            ["search.darts.share"],
        ),
        ({}, []),
    ],
)
def test_what_is_set_for_nothing_is_named(tree: dict[str, Any], names: list[str]) -> None:
    lines = idle(parse(tree, "p.yaml"))
    assert [line.partition(" ")[0] for line in lines] == names
    assert all(" has no effect: " in line for line in lines)


def test_defaults_that_are_spelled_out_stay_valid() -> None:
    assert idle(parse(Params().tree(), "p.yaml")) == []


def test_every_rule_is_about_parameters_that_there_are() -> None:
    for names, _, _ in RULES:
        for name in names:
            found = defaults()
            for part in name.split("."):
                found = found[part]


def test_check_names_them_and_finds_limits_that_nothing_meets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The expected minutes have tests of their own, and their trial takes seconds.
    monkeypatch.setattr(cli_project, "_minutes", lambda params: "")
    file = tmp_path / "p.yaml"
    file.write_text("search: {table_column: test}\n")
    check(file)
    assert "search.table_column has no effect: search.table is null\n" in capsys.readouterr().out
    for limit in ("max_macs: 10", "max_params: .00001x"):
        file.write_text(f"search: {{{limit}}}\n")
        with pytest.raises(UserError, match=rf"^search\.{limit[:8]}.*: found .*, expected at least \d+, the smallest"):
            check(file)
    # Of own images the classes are not known yet: what no number of them would meet is refused all the same.
    own = {"target": {"dataset": "folder", "root": "datasets/own", "image_size": 16}, "source": {"dataset": "cifar10"}}
    file.write_text(yaml.safe_dump({**own, "search": {"max_params": 10}}))
    with pytest.raises(UserError, match=r"^search\.max_params: found 10, expected at least"):
        check(file)


@pytest.mark.parametrize("given", [8, "all", [1]])
def test_references_name_the_forms_that_they_take(given: object) -> None:
    with pytest.raises(UserError, match=r"retrain\.references.*expected true, false or a mapping"):
        parse({"retrain": {"references": given}}, "p.yaml")


def test_a_truth_table_refuses_a_correction_that_it_would_ignore(tmp_path: Path) -> None:
    spec = {"conditions": {"balanced": {"ratio": 1.0}}, "cells": ["0-0-0-0-0-0"], "evaluate": {"logit_adjustment": 1.0}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(UserError, match=r"evaluate\.logit_adjustment is 1\.0, expected 0\.0"):
        load_truth(tmp_path / "t.yaml")
