"""Parameter files as plain data: what YAML would expand, repeat or read in an unexpected way is refused by its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from imbnas.errors import UserError
from imbnas.files import PARAMETERS_LIMIT, read_text

MOST_VALUES = 10_000
"""That a YAML text may hold, keys and the expansion of its aliases included: ten times what all parameters take."""
MOST_CHARACTERS = 2**20
"""Of all those values together."""
DEEPEST = 32
"""Levels of mappings and lists in each other."""

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OCTAL = re.compile(r"[-+]?0[0-9_]+$")
_CHILDREN = "expected numbers, text, lists and mappings that are written out"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that counts what a text will hold before it makes it, and refuses what is read unexpectedly:
    a key given twice, of which the last would silently win, and numbers with a leading zero or a colon.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._count = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, unless it is one too many or too deep."""
        self._count += 1
        self._depth += 1
        line = self.peek_event().start_mark.line + 1
        if self._count > MOST_VALUES:
            raise UserError(f"line {line}: the {MOST_VALUES + 1:,}th value, expected at most {MOST_VALUES:,}")
        if self._depth > DEEPEST:
            raise UserError(f"line {line}: more than {DEEPEST} levels, expected mappings within mappings, a few deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """Return the text's root once its expansion has been counted."""
        node = super().get_single_node()
        if node is not None:
            _Expansion().of(node)
        return node


class _Expansion:
    """Counts values and characters below a node as if every alias were written out, each node once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node) -> tuple[int, int]:
        """Return both numbers; UserError where a node holds itself, or there are too many."""
        line = node.start_mark.line + 1
        if id(node) in self._open:
            raise UserError(f"line {line}: an alias of what it stands in, {_CHILDREN}")
        if id(node) not in self._known:
            self._open.add(id(node))
            values, characters = 1, len(node.value) if isinstance(node, yaml.ScalarNode) else 0
            for child in _children(node):
                more = self.of(child)
                values, characters = values + more[0], characters + more[1]
            self._open.remove(id(node))
            if values > MOST_VALUES or characters > MOST_CHARACTERS:
                raise UserError(
                    f"line {line}: its aliases stand for {values:,} values of {characters:,} characters, expected at "
                    f"most {MOST_VALUES:,} of {MOST_CHARACTERS:,}"
                )
            self._known[id(node)] = values, characters
        return self._known[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _unique(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    _refuse_twice([key.value for key in keys], [key.start_mark.line + 1 for key in keys])
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    """Return a number, unless YAML 1.1 takes it for another one than YAML 1.2 and most people do."""
    make = loader.construct_yaml_int if node.tag == _NUMBERS[0] else loader.construct_yaml_float
    value: int | float = make(node)
    text = node.value
    octal = node.tag == _NUMBERS[0] and _OCTAL.match(text)
    if octal or ":" in text:
        found = "octal, by its leading zero" if octal else "in base 60, by its colon"
        decimal = f"{int(text)}, or " if octal else ""
        raise UserError(
            f"line {node.start_mark.line + 1}: {text} is {value} to YAML 1.1 ({found}), expected a plain number; "
            f"write {decimal}{value}, or '{text}' in quotes for text"
        )
    return value


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique)
for _tag in _NUMBERS:
    _Loader.add_constructor(_tag, _number)
# `dvc exp run -S` writes small numbers as Python prints them, 1e-05, which is text to YAML 1.1. What people write,
# 1e-3, stays text here and is refused with a hint: Snakemake and other readers would take it for text too.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"-?[0-9](\.[0-9]+)?e[-+][0-9]{2,}$"), list("-0123456789")
)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice([key for key, _ in pairs])
    return dict(pairs)


def _refuse_twice(keys: list[str], lines: list[int] | None = None) -> None:
    seen: set[str] = set()
    for place, key in enumerate(keys):
        if key in seen:
            where = f"line {lines[place]}: " if lines else ""
            raise UserError(f"{where}{' '.join(key.split())} is given twice, expected once")
        seen.add(key)


def decode(text: str) -> Any:
    """Return what a YAML text holds; UserError with the line of what is refused, yaml.YAMLError for no YAML."""
    return yaml.load(text, Loader=_Loader)


def read(path: Path) -> Any:
    """Return what a JSON file (by its suffix) or a YAML file holds, unchecked, or raise UserError with one line.

    It may be a part of the parameters, as in `snakemake --configfile`.
    """
    text = _text(path)
    try:
        # JSON is read as such: YAML 1.1 takes JSON's 1e-05 for text.
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_unique_pairs)
        return decode(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # PyYAML looks dates up without checking that there are such days.
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError, ValueError) as error:
        language = "JSON" if path.suffix == ".json" else "YAML"
        raise UserError(f"{path}: not valid {language}: {' '.join(str(error).split())[:200]}") from None


def _text(path: Path) -> str:
    try:
        return read_text(path, PARAMETERS_LIMIT)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, expected a parameter file") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text, expected a parameter file") from None
