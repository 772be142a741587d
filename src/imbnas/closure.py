"""The source files that a step depends on: the closure of its imports, read from the syntax without importing anything.

The workflow declares these files for the step's rule and stage, and a saved training state is keyed by their content.
Results of older code are therefore never mistaken for those of newer code.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
PACKAGE = SOURCE.name

_MENTION = re.compile(rf"(?:(?<!\w)(?:from|import)[ \t]+|[,\\][ \t]*\n?[ \t]*){PACKAGE}\b")
"""Wherever this package may be imported."""
_PLAIN = re.compile(
    rf"[ \t]*(?:import (?P<whole>{PACKAGE}[\w.]*)(?: as \w+)?|from (?P<module>{PACKAGE}[\w.]*) import "
    r"(?:(?P<one>\w[\w, ]*)|\((?P<many>[\w,\s]*)\)))[ \t]*(?:#.*)?$",
    re.MULTILINE,
)
"""From the beginning of a line: an import of it, and nothing else."""


def step_files(step: str) -> list[str]:
    """Return the files that `imbnas.steps.<step>` imports, itself included, as sorted paths relative to src's parent.

    A package's `__init__` counts with each of its modules, as Python runs it. Imports inside functions count too;
    those that serve type checking only (`if TYPE_CHECKING`) do not.
    """
    return module_files(f"{PACKAGE}.steps.{step}")


def step_digest(step: str) -> str:
    """Return a SHA-256 over the names and contents of `step_files`."""
    return module_digest(f"{PACKAGE}.steps.{step}")


def module_files(module: str) -> list[str]:
    """Return what `step_files` says, for any module of the package."""
    return [f"src/{PACKAGE}/{path.relative_to(SOURCE).as_posix()}" for path in _closure(module)]


def module_digest(module: str) -> str:
    """Return a SHA-256 over the names and contents of `module_files`."""
    state = hashlib.sha256()
    for path in _closure(module):
        state.update(f"{path.relative_to(SOURCE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()


def look_again() -> None:
    """Clear the caches, so that a long-running controller sees edited files."""
    _file.cache_clear()
    _imports.cache_clear()


def _closure(module: str) -> list[Path]:
    found: dict[str, Path] = {}
    seen = {module}
    pending = [module]
    while pending:
        parts = pending.pop().split(".")
        for size in range(1, len(parts) + 1):
            prefix = ".".join(parts[:size])
            if prefix in found:
                continue
            path = _file(prefix)
            if path is not None:
                found[prefix] = path
                new = [name for name in _imports(path) if name not in seen]
                seen.update(new)
                pending += new
    return sorted(found.values())


@cache
def _file(module: str) -> Path | None:
    """Return the file of a module of this package, None for a name inside a module or a foreign one."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    base = SOURCE.joinpath(*parts[1:])
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(path: Path) -> set[str]:
    source = path.read_bytes()
    names = plain_imports(source.decode(errors="replace"))
    return parsed_imports(source) if names is None else names


def plain_imports(text: str) -> set[str] | None:
    """Return the names of this package that a module imports, or None where only its syntax tells them.

    That is where an import may serve type checking alone, has company on its line, or stands in a text. To parse every
    module takes a third of the time of a dry run.
    """
    if "TYPE_CHECKING" in text:
        return None
    names: set[str] = set()
    for mention in _MENTION.finditer(text):
        start = text.rfind("\n", 0, mention.start()) + 1
        plain = _PLAIN.match(text, start)
        if plain is None or any(text.count(quotes, 0, start) % 2 for quotes in ('"""', "'''")):
            return None
        module, listed = plain["whole"] or plain["module"], plain["one"] or plain["many"] or ""
        names |= {module, *(f"{module}.{name.split()[0]}" for name in listed.split(",") if name.strip())}
    return names


def parsed_imports(source: str | bytes) -> set[str]:
    """Return the names of this package that a module imports, from its syntax."""
    names: list[str] = []
    for node in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return {name for name in names if name.split(".")[0] == PACKAGE}


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield all statements but those below `if TYPE_CHECKING`; an import is none of an expression's parts."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        checking = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for name in ("orelse",) if checking else ("body", "orelse", "finalbody", "handlers", "cases"):
            part = getattr(node, name, ())
            if isinstance(part, list):
                pending += part
