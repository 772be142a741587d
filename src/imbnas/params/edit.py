"""Setting parameters in the text of a YAML file: comments and all other lines stay as they are.

What is written is what `dvc exp run -S` writes, so that it changes no other line later: an empty value for null; lists
one entry per line, except in a mapping on one line, which has at most 80 columns. DVC makes each list anew, without the
comments between it and the next key; hence lists are added where a section begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from imbnas.errors import UserError
from imbnas.files import write_bytes
from imbnas.params.config import Params, load, parse
from imbnas.params.dvc import missing
from imbnas.params.reading import decode, read
from imbnas.params.reference import leaves
from imbnas.params.section import Section, is_model, is_section

WIDTH = 80
"""Columns to which DVC's dumper (ruamel.yaml) fills a mapping on one line."""


def set_parameters(file: Path, assignments: Sequence[str]) -> dict[str, Any]:
    """Set parameters in a YAML file, each given as KEY=VALUE, and return those that were written.

    A value that holds already is not written, since DVC would take a line more for a change; unless dvc.yaml names the
    parameter and the file does not. UserError for an unknown parameter or a wrong value; the file then stays.
    """
    if file.suffix == ".json":
        raise UserError(f"{file}: expected a YAML file")
    before, tree = load(file).tree(), read(file)
    edits = [edit for assignment in assignments for edit in _edits(*_assignment(assignment))]
    for path, value in edits:
        tree = _with(tree, path, value)
    after = parse(tree, f"{file} + params set").tree()
    needed = missing(file)
    changed = [edit for edit in edits if _at(before, edit[0]) != _at(after, edit[0]) or _needed(edit[0], needed)]
    text = file.read_text(encoding="utf-8")
    for path, value in changed:
        text = with_value(text, path, value)
    if _read_back(text) != after:
        raise UserError(f"{file}: not to be edited safely (anchors, or values over several lines?), edit it by hand")
    if changed:
        write_bytes(file, text.encode())
    return {".".join(path): value for path, value in changed}


def _read_back(text: str) -> dict[str, Any] | None:
    try:
        return parse(decode(text), "").tree()
    except (UserError, yaml.YAMLError):
        return None


def _edits(key: str, value: Any) -> list[tuple[list[str], Any]]:
    """Return the path and value of each parameter that KEY=VALUE sets: several where KEY is a section."""
    path = path_of(key)
    section = _section(path)
    if section is None or not isinstance(section.spelled_out(value), dict):
        return [(path, value)]
    return [(path_of(name), item) for name, item in leaves(nested(path, value)).items()]


def _section(path: Sequence[str]) -> type[Section] | None:
    model: Any = Params
    for part in path:
        fields = {field.alias or key: field.annotation for key, field in model.model_fields.items()}
        model = fields.get(part)
        if not is_section(model):
            return None
    return model


def _with(tree: Any, path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a copy of a tree with one value set, where it stands in a free mapping too."""
    inner = dict(tree) if isinstance(tree, dict) else {}
    inner[path[0]] = _with(inner.get(path[0]), path[1:], value) if len(path) > 1 else value
    return inner


def _at(tree: Any, path: Sequence[str]) -> Any:
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _needed(path: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether one of the `names` is that of the parameter or of a section that it is in."""
    return any(".".join(path[: size + 1]) in names for size in range(len(path)))


def _assignment(text: str) -> tuple[str, Any]:
    key, mark, value = text.partition("=")
    if not mark or not key:
        raise UserError(f"{text}: expected KEY=VALUE, as in adapt.head.epochs=30")
    try:
        return key, decode(value)
    except yaml.YAMLError as error:
        raise UserError(f"{key}: not valid YAML: {' '.join(str(error).split())}") from None


def path_of(name: str) -> list[str]:
    """Return the keys that lead to a parameter: what follows a free mapping, such as study.axes, is one key of it."""
    parts = name.split(".")
    model: Any = Params
    for place, part in enumerate(parts):
        fields = {field.alias or key: field.annotation for key, field in model.model_fields.items()}
        model = fields.get(part)
        if not is_model(model):
            rest = parts[place + 1 :]
            return parts[: place + 1] + ([".".join(rest)] if rest else [])
    return parts


def nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return the tree that holds one value at the end of a path."""
    return {path[0]: nested(path[1:], value) if len(path) > 1 else value}


def with_value(text: str, path: Sequence[str], value: Any) -> str:
    """Return a YAML text with one value replaced or added."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    parent: yaml.Node | None = None
    if not isinstance(node, yaml.MappingNode):
        return text + "".join(f"{line}\n" for line in block(nested(path, value), 0))
    for depth, name in enumerate(path):
        pair = next(((key, inner) for key, inner in node.value if key.value == name), None)
        if pair is None:
            return _added(text, parent, node, nested(path[depth:], value))
        key, inner = pair
        if depth + 1 == len(path) or not isinstance(inner, yaml.MappingNode):
            new = nested(path[depth + 1 :], value) if path[depth + 1 :] else value
            return _replaced(text, key, inner, new, node.flow_style)
        if inner.flow_style and not node.flow_style:
            new = _with(_plain(inner), path[depth + 1 :], value)
            if key.start_mark.column + len(flow({name: new})) - 2 > WIDTH and not _holds_list(new):
                return _replaced(text, key, inner, new, False)
        parent, node = key, inner
    return text


def _replaced(text: str, key: yaml.Node, old: Any, value: Any, one_line: bool) -> str:
    start = text.index(":", key.end_mark.index) + 1
    end = max(_end(text, old), start)
    rest = text[start:end]
    # What stands between the key and the lines of a block is its comment.
    line_end = text.index("\n", start) if "\n" in text[start:] else len(text)
    is_block = not isinstance(old, yaml.ScalarNode) and not old.flow_style and bool(rest)
    comment = text[start:line_end].rstrip() if is_block else text[end:line_end]
    after = text[max(end, line_end) :]
    if isinstance(value, (list, Mapping)) and value and not one_line:
        lines = "".join(f"\n{line}" for line in _entries(value, key.start_mark.column))
        return f"{text[:start]}{comment}{lines}{after}"
    single = flow(value)
    return f"{text[:start]}{' ' if single else ''}{single}{comment}{after}"


def _added(text: str, parent: yaml.Node | None, node: yaml.MappingNode, tree: dict[str, Any]) -> str:
    if node.flow_style:
        at = node.end_mark.index - 1
        inside = flow(tree)[1:-1]
        return f"{text[:at]}{', ' if node.value else ''}{inside}{text[at:]}"
    at = text.find("\n", parent.end_mark.index if parent and _holds_list(tree) else _end(text, node))
    at = len(text) if at < 0 else at
    return text[:at] + "".join(f"\n{line}" for line in block(tree, node.start_mark.column)) + (text[at:] or "\n")


def _end(text: str, node: Any) -> int:
    """Return where a value ends: a block's own mark lies behind the comments and empty lines that follow it."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return node.end_mark.index
    last = node.value[-1]
    if isinstance(last, yaml.Node):
        return _end(text, last)
    key, value = last
    return max(_end(text, value), text.index(":", key.end_mark.index) + 1) if _empty(value) else _end(text, value)


def _empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.start_mark.index == node.end_mark.index


def _plain(node: yaml.Node) -> Any:
    return decode(yaml.serialize(node))


def _holds_list(tree: Any) -> bool:
    return any(map(_holds_list, tree.values())) if isinstance(tree, Mapping) else isinstance(tree, list) and bool(tree)


def block(tree: Mapping[str, Any], column: int) -> list[str]:
    """Return the lines of a mapping, indented to `column`, with sections and lists over several lines."""
    lines: list[str] = []
    for key, value in tree.items():
        start = f"{' ' * column}{key}:"
        if isinstance(value, (list, Mapping)) and value:
            lines += [start, *_entries(value, column)]
        else:
            lines.append(f"{start} {flow(value)}".rstrip())
    return lines


def _entries(value: Mapping[str, Any] | Sequence[Any], column: int) -> list[str]:
    if isinstance(value, Mapping):
        return block(value, column + 2)
    lines: list[str] = []
    for item in value:
        # An entry that is a list or a mapping itself begins on the line of its dash.
        inner = (
            _entries(item, column if isinstance(item, Mapping) else column + 2)
            if item and isinstance(item, (list, Mapping))
            else None
        )
        first, *others = inner or [flow(item)]
        lines += [f"{' ' * column}- {first.strip()}".rstrip(), *others]
    return lines


def flow(value: Any) -> str:
    """Return a JSON value as it stands in YAML on one line; nothing for null."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(item) or 'null'}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(item) or "null" for item in value) + "]"
    if isinstance(value, float):
        text = repr(value)
        # To YAML 1.1 a number with an exponent but no point is text.
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return yaml.safe_dump(value, width=10**6).removesuffix("...\n").strip()
