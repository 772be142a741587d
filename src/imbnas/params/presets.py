"""Presets: parameter files that come with the package, and writing one as a project's params.yaml.

Those of `presets/` are complete. Those of `presets/literature/` hold only what differs from the preset digits, so that
a recipe can be read at a glance, and are made complete here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbnas.errors import UserError
from imbnas.files import PARAMETERS_LIMIT, canonical_json, read_regular, write_bytes
from imbnas.params.config import parse
from imbnas.params.reading import decode

PARAMS = "params.yaml"
BASE = "digits"
_KNOB = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value>(?: [^#\s][^#]*?)?)(?P<comment>  # .*)?$")
_USAGE = re.compile(r"# (Only what differs|    imbnas init)")
_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[1] / "presets", _HERE.parents[3] / "presets")
"""In an installed wheel, and in a clone of the repository."""


@dataclass(frozen=True)
class Written:
    """What `initialise` did."""

    params: Path
    """The parameter file."""
    changed: bool
    """Whether its content is new."""
    roots: tuple[str, ...]
    """The dataset directories, which now exist."""
    to_fill: tuple[str, ...]
    """Those whose files are neither downloaded nor bundled."""


def directory() -> Path:
    """Return the directory of the presets; raises UserError where the installation lacks it."""
    for place in _PLACES:
        if place.is_dir():
            return place
    raise UserError(f"{_PLACES[0]}: not found, expected the presets; install imbnas again")


def names() -> list[str]:
    """Return the presets' names, sorted."""
    return sorted(path.relative_to(directory()).with_suffix("").as_posix() for path in directory().rglob("*.yaml"))


def summary(name: str) -> str:
    """Return a preset's title, the second line of its file."""
    return text(name).splitlines()[1].removeprefix("# ").rstrip(".")


def text(name: str) -> str:
    """Return the preset called `name` as the text of a params.yaml; raises UserError for an unknown name."""
    if name not in names():
        raise UserError(f"preset {name!r}: unknown, expected one of {', '.join(names())}")
    content = (directory() / f"{name}.yaml").read_text(encoding="utf-8")
    if "/" in name:
        return _complete(text(BASE), content)
    # In presets/ the schema lies one level up, beside params.yaml.
    return content.replace("$schema=../", "$schema=", 1)


def _complete(base: str, partial: str) -> str:
    """Return the text of a complete parameter file with the values of a partial one, under the latter's title.

    Comments are the complete file's, since they say what a knob means; those of the partial file say why it differs.
    Raises UserError for a knob that the complete file does not have.
    """
    values = dict(_leaves(decode(partial)))
    lines: list[str] = []
    known: set[str] = set()
    path: list[tuple[int, str]] = []
    for line in base.splitlines():
        found = _KNOB.match(line)
        if found:
            indent, key, value = len(found["indent"]), found["key"], found["value"].strip()
            path = [(depth, name) for depth, name in path if depth < indent] + [(indent, key)]
            dotted = ".".join(name for _, name in path)
            new: Any = decode(value) if value else None
            if value.startswith("{"):
                pairs = {f"{dotted}.{name}": inner for name, inner in new.items()}
                known |= pairs.keys()
                new = {name.rpartition(".")[2]: values.get(name, inner) for name, inner in pairs.items()}
            elif dotted in values:
                known.add(dotted)
                new = values[dotted]
            if value and new != decode(value):
                line = f"{found['indent']}{key}: {_flow(new)}{found['comment'] or ''}"
        lines.append(line)
    for name in sorted(values.keys() - known):
        raise UserError(f"preset: {name}: unknown parameter, expected one of the preset {BASE}")
    title = [line for line in partial.split("\n\n", 1)[0].splitlines() if not _USAGE.match(line)]
    return "\n".join([lines[0], *title, *lines[lines.index("") :]]) + "\n"


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _flow(value: Any) -> str:
    """Return a JSON value as it stands in YAML on one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = canonical_json(value)
    # To YAML 1.1 a number with an exponent but no point is text.
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text


def initialise(name: str, root: Path, force: bool) -> Written:
    """Write the preset as `root`/params.yaml and create the dataset directories that it names.

    DVC and Snakemake watch these directories, so they must exist even where a download fills them. Raises UserError
    when params.yaml is there and no unchanged preset, whose loss would cost nothing, unless `force`.
    """
    content, target = text(name).encode(), root / PARAMS
    try:
        present = read_regular(target, PARAMETERS_LIMIT) if target.exists() else None
        unchanged = {text(other).encode() for other in names()}
        if present is not None and present not in unchanged and not force:
            raise UserError(
                f"{target}: found one that is no unchanged preset, expected none; --force overwrites it with {name}"
            )
        params = parse(decode(content.decode()), name)
        datasets = {each.root: each for each in (params.source, params.target)}
        for each in datasets:
            (root / each).mkdir(parents=True, exist_ok=True)
        if present != content:
            write_bytes(target, content)
    except OSError as error:
        raise UserError(f"{error.filename or target}: {error.strerror}, expected a directory to write to") from None
    to_fill = tuple(each for each, data in datasets.items() if not data.download and data.dataset != "digits")
    return Written(target, present != content, tuple(datasets), to_fill)
