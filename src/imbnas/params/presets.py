"""Presets: parameter files that come with the package, and writing one as a project's params.yaml.

A preset holds what differs from the defaults, with the reason, and what dvc.yaml names: DVC knows no defaults.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbnas.errors import UserError
from imbnas.files import PARAMETERS_LIMIT, read_regular, write_bytes
from imbnas.params.config import Params, parse
from imbnas.params.edit import block
from imbnas.params.reading import decode
from imbnas.params.reference import parameters
from imbnas.params.reuse_options import SUPERNETS

PARAMS = "params.yaml"
_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[1], _HERE.parents[3])
"""Directories that hold `presets` and `supernets`: of an installed wheel, and a clone of the repository."""


@dataclass(frozen=True)
class Written:
    """The result of `initialise`."""

    params: Path
    """The parameter file."""
    changed: bool
    """Whether its content is new."""
    roots: tuple[str, ...]
    """The dataset directories, which now exist."""
    to_fill: tuple[str, ...]
    """Those whose files are neither downloaded nor bundled."""
    supernet: str | None
    """The file that `supernet.reuse` names: it is there, or the user has to bring it."""


def directory() -> Path:
    """Return the directory of the presets; raises UserError where the installation lacks it."""
    return _packaged("presets")


def _packaged(name: str) -> Path:
    for place in _PLACES:
        if (place / name).is_dir():
            return place / name
    raise UserError(f"{_PLACES[0] / name}: not found, expected what the package brings; install imbnas again")


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
    # The schema lies beside params.yaml.
    return re.sub(r"\$schema=(\.\./)+", "$schema=", content, count=1)


def full_text(name: str) -> str:
    """Return the preset called `name` with a line for each parameter, the defaults included, and what it means."""
    head = [
        *text(name).splitlines()[:2],
        "# Every parameter, with its default where the preset names none; docs/parameters.md explains each of them.",
        "# A value left empty is null. Write 1.0e-3, not 1e-3: to YAML 1.1 the latter is text.",
    ]
    meanings = {each.name: each.summary for each in parameters()}
    lines = _full_lines(params(name).tree(), "", meanings)
    return "\n".join([*head, "", *lines]) + "\n"


def _full_lines(tree: dict[str, Any], prefix: str, meanings: dict[str, str]) -> Iterator[str]:
    column = 2 * prefix.count(".")
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name not in meanings:
            yield f"{' ' * column}{key}:"
            yield from _full_lines(value, f"{name}.", meanings)
            continue
        first, *others = block({key: value}, column)
        line = f"{first}  # {meanings[name]}"
        if len(line) > 120:
            yield from (f"{' ' * column}# {part}" for part in textwrap.wrap(meanings[name], 118 - column))
        yield first if len(line) > 120 else line
        yield from others


def params(name: str) -> Params:
    """Return the parameters of the preset called `name`; raises UserError for an unknown name."""
    return parse(decode(text(name)), f"preset {name}")


def initialise(name: str, root: Path, force: bool, full: bool = False) -> Written:
    """Write the preset as `root`/params.yaml and create the dataset directories that it names.

    `full`: with a line for every parameter, in place of those that differ from the defaults.

    DVC and Snakemake watch these directories, so they must exist even where a download fills them. Raises UserError
    when params.yaml is there and no unchanged preset, whose loss would cost nothing, unless `force`.
    """
    content, target = (full_text(name) if full else text(name)).encode(), root / PARAMS
    try:
        present = read_regular(target, PARAMETERS_LIMIT) if target.exists() else None
        if present is not None and not force and not _unchanged(present):
            raise UserError(
                f"{target}: found one that is no unchanged preset, expected none; --force overwrites it with {name}"
            )
        chosen = params(name)
        datasets = {each.root: each for each in (chosen.source, chosen.target)}
        for each in datasets:
            (root / each).mkdir(parents=True, exist_ok=True)
        bring_supernet(chosen, root)
        if present != content:
            write_bytes(target, content)
    except OSError as error:
        raise UserError(f"{error.filename or target}: {error.strerror}, expected a directory to write to") from None
    to_fill = tuple(
        each
        for each, data in datasets.items()
        if not data.download and data.dataset != "digits" and not _holds_anything(root / each)
    )
    return Written(target, present != content, tuple(datasets), to_fill, chosen.supernet.reuse)


def bring_supernet(params: Params, root: Path) -> None:
    """Copy the supernet that `supernet.reuse` names into `root`, if it ships and none of that name is there."""
    reuse = params.supernet.reuse
    if reuse is None or (root / reuse).exists():
        return
    shipped = _packaged(SUPERNETS) / Path(reuse).name
    # The record of what it took comes first: without its supernet it says nothing.
    for file in (shipped.with_suffix(".cost.json"), shipped):
        if file.is_file():
            (root / SUPERNETS).mkdir(parents=True, exist_ok=True)
            write_bytes(root / SUPERNETS / file.name, file.read_bytes())


def _holds_anything(directory: Path) -> bool:
    """Return whether something lies in a directory that is not hidden."""
    return any(not path.name.startswith(".") for path in directory.iterdir())


def _unchanged(content: bytes) -> bool:
    """Return whether a file is a preset as `imbnas init` writes it."""
    return any(content == make(name).encode() for make in (text, full_text) for name in names())
