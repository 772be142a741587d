"""Every parameter by its dotted name, with its default, what it may be and what it means: all from the models alone."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from imbnas.errors import UserError
from imbnas.params.config import Params, defaults
from imbnas.params.schema import describe
from imbnas.params.section import is_model, is_section

_CITED = re.compile(r"[A-Z][\w-]+(?: et al\.| and [A-Z][\w-]+),? \d{4}|arXiv \d{4}\.\d{5}")
_LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


@dataclass(frozen=True)
class Parameter:
    """One parameter, a leaf of the tree."""

    name: str
    """Its dotted name."""
    default: Any
    """The value where the file names none, in JSON values."""
    values: str
    """What it may be."""
    meaning: str
    """Its docstring, on one line."""
    words: tuple[str, ...]
    """The words or numbers that it may be, where they are listed."""
    source: str
    """The publications that its docstring, or that of its section, cites."""

    @property
    def summary(self) -> str:
        """The words that it may be, else the first clause of its meaning."""
        if self.words:
            return ", ".join(self.words)
        return re.split(r"[.;] |\.$", self.meaning, maxsplit=1)[0].replace("`", "")


@cache
def parameters() -> tuple[Parameter, ...]:
    """Return all parameters in the order of the models."""
    describe(Params)
    return tuple(_walk(Params, defaults(), ""))


def leaves(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the value of each parameter that a tree names, by its dotted name."""
    return dict(_leaves(Params, tree, ""))


def chosen(section: str | None) -> list[Parameter]:
    """Return the parameters of a section, or the one of that name; all for None. UserError for an unknown name."""
    known = parameters()
    found = [each for each in known if section is None or f"{each.name}.".startswith(f"{section}.")]
    if not found:
        names = {name for each in known for name in _prefixes(each.name)}
        close = difflib.get_close_matches(str(section), sorted(names), 1)
        hint = f"did you mean {close[0]}?" if close else f"expected a section: {', '.join(defaults())}"
        raise UserError(f"{section}: unknown parameter, {hint}")
    return found


def page() -> str:
    """Return docs/parameters.md."""
    lines = [
        "# Parameters",
        "",
        "<!-- Written by `make sync` from the models in src/imbnas/params: edit those. -->",
        "",
        "Every parameter of `params.yaml`. A file names what differs; a section that names some parameters keeps the",
        "other defaults of its place. `imbnas params show` prints the values of a project,",
        "`imbnas params show adapt.head` those of a section, and `imbnas params set adapt.head.epochs=30` edits the",
        "file. null is written as an empty value.",
    ]
    section = ""
    for each in parameters():
        top = each.name.split(".")[0]
        if top != section:
            section = top
            lines += ["", f"## `{top}`", "", Params.model_fields[top].description or "", "", *_HEAD]
        cells = [f"`{each.name}`", f"`{_json(each.default)}`", each.values, each.meaning, each.source]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells).rstrip() + " |")
    return "\n".join(lines) + "\n"


_HEAD = ["| name | default | values | meaning | source |", "|---|---|---|---|---|"]


def _json(value: Any) -> str:
    return "null" if value is None else value if isinstance(value, str) else json.dumps(value)


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: size + 1]) for size in range(len(parts)))


def _walk(model: type[BaseModel], tree: dict[str, Any], prefix: str) -> Iterator[Parameter]:
    about = " ".join((model.__doc__ or "").split())
    for name, field in model.model_fields.items():
        key = field.alias or name
        if is_model(field.annotation):
            yield from _walk(field.annotation, tree[key], f"{prefix}{key}.")
        else:
            meaning = " ".join((field.description or "").split())
            cited = dict.fromkeys(_CITED.findall(meaning) or _CITED.findall(about))
            node = _schema(model)[key]
            yield Parameter(f"{prefix}{key}", tree[key], _values(node), meaning, _words(node), "; ".join(cited))


def _words(node: dict[str, Any]) -> tuple[str, ...]:
    """Return the words or numbers of a list of them, which null may stand beside."""
    (first, *others) = [each for each in node.get("anyOf", [node]) if each.get("type") != "null"]
    return () if others else tuple(map(str, first.get("enum", ())))


def _leaves(model: type[BaseModel], tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    models = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    for key, value in tree.items():
        inner = models.get(key)
        if is_section(inner):
            value = inner.spelled_out(value)
        if is_model(inner) and isinstance(value, dict):
            yield from _leaves(inner, value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = model.model_json_schema(by_alias=True)["properties"]
    return properties


def _values(node: dict[str, Any]) -> str:
    """Return in words what a JSON schema allows."""
    if "anyOf" in node:
        return " or ".join(_values(part) for part in node["anyOf"])
    if "const" in node or "enum" in node:
        return ", ".join(map(str, node.get("enum", [node.get("const")])))
    limits = " ".join(f"{word} {_number(node[key])}" for key, word in _LIMITS.items() if key in node)
    if "multipleOf" in node:
        limits += f", a multiple of {node['multipleOf']}"
    words = {
        "boolean": "true, false",
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "null": "null",
        "object": "mapping",
    }
    kind = node.get("type", "object")
    if kind == "array":
        return f"list of: {_values(node['items'])}" if node.get("items") else "list"
    # A text of a form of its own shows it by an example.
    limits += " ".join(f"such as {example}" for example in node.get("examples", ()))
    return f"{words[kind]} {limits}".strip()


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
