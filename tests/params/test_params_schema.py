"""The JSON schema of params.yaml: current, described, and as strict as the models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from params_trees import DEFAULT, PRESETS, ROOT, altered, default_tree

from imbnas.cli import main
from imbnas.params.config import load
from imbnas.params.schema import schema, schema_text

FILE = ROOT / "params.schema.json"


def objects(node: Any, place: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object schema with its place."""
    if isinstance(node, dict):
        if "properties" in node:
            yield place, node
        for key, value in node.items():
            yield from objects(value, f"{place}/{key}")


def test_the_committed_schema_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "run: imbnas schema --write params.schema.json"


def test_every_property_has_a_description() -> None:
    tree = schema()

    def described(value: dict[str, Any]) -> bool:
        # Pydantic leaves out what would repeat the description of the section that it refers to.
        section = tree["$defs"].get(value.get("$ref", "").removeprefix("#/$defs/"), {})
        return bool(value.get("description") or section.get("description"))

    missing = [
        f"{place}: {name}"
        for place, node in objects(tree)
        for name, value in node["properties"].items()
        if not described(value)
    ]
    assert missing == []


def test_every_section_is_described_and_closed() -> None:
    open_or_silent = [
        place
        for place, node in objects(schema())
        if node.get("additionalProperties") is not False or not node.get("description")
    ]
    assert open_or_silent == []


@pytest.mark.parametrize("file", [DEFAULT, *PRESETS], ids=lambda file: file.stem)
def test_an_editor_accepts_the_shipped_files(file: Path) -> None:
    jsonschema.Draft202012Validator(schema()).validate(load(file).tree())


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("retrain.epoch", 3),
        ("imbalance.ratio", 0),
        ("target.validation.from", "test"),
        ("runtime.threads", "2"),
        ("retrain.augment.pad", -1),
    ],
)
def test_an_editor_refuses_what_the_models_refuse(dotted: str, value: object) -> None:
    checker = jsonschema.Draft202012Validator(schema())
    assert checker.is_valid(default_tree())
    assert not checker.is_valid(altered(dotted, value))


def test_the_command_prints_or_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["schema"], ["schema", "--write", str(tmp_path / "new" / "s.json")]):
        monkeypatch.setattr(sys, "argv", ["imbnas", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
    assert capsys.readouterr().out == schema_text()
    assert (tmp_path / "new" / "s.json").read_text(encoding="utf-8") == schema_text()
    assert json.loads(schema_text())["title"] == "Params"
