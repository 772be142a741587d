"""The files beside images that say to which group each belongs, and what the classes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import normpath

from imbnas.data.indexes import TABLES
from imbnas.data.raw import relative_path
from imbnas.data.table_columns import columns_of, group_names, texts
from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, read_text


def named_file(root: Path, names: Mapping[str, str | None], key: str, section: str) -> Path | None:
    """Return the file that the parameter `section`.`key` names below `root`, None where it names none."""
    name = names.get(key)
    if name is None:
        return None
    try:
        return root / relative_path(name)
    except ValueError as error:
        raise UserError(f"{section}.{key}: {name!r}: {error}") from None


def read_group_file(file: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the group of each path in a table with the columns path and group, and the names of its other columns.

    Raises UserError for a path with two groups.
    """
    if file.suffix.lower() not in TABLES:
        raise UserError(f"{file}: a group file of the kind {file.suffix!r}, expected {' or '.join(TABLES)}")
    table = columns_of(file, ("path", "group"))
    found = table.found
    groups: dict[str, str] = {}
    for path, group in zip(map(normpath, texts(found["path"])), group_names(found["group"]), strict=True):
        if groups.setdefault(path, group) != group:
            raise UserError(f"{file}: {path} is in the groups {groups[path]!r} and {group!r}, expected one")
    return groups, table.unread


def groups_of(file: Path, known: Mapping[str, str], paths: Sequence[str]) -> list[str]:
    """Return the group of each image, its own where it has none; UserError for one that is not in the file."""
    missing = [path for path in paths if path not in known]
    if missing:
        more = f" (nor one of {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"{file}: no row for {missing[0]}{more}, expected one per image; an empty group is a group of its own"
        )
    return own_groups([known[path] for path in paths], paths)


def own_groups(groups: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return groups in which a row without one has its path for a name."""
    return [group or path for group, path in zip(groups, paths, strict=True)]


def refuse_crossing(parts: Mapping[str, tuple[Sequence[str], Sequence[str]]], section: str) -> None:
    """Raise UserError where published splits, given as paths and groups of their rows, have a group in common."""
    owner: dict[str, tuple[str, str]] = {}
    for split, (paths, groups) in parts.items():
        for path, group in zip(paths, groups, strict=True):
            earlier, other = owner.setdefault(group, (split, path))
            if earlier != split:
                raise UserError(
                    f"{section}.splits: group {group!r} is in {earlier} ({other}) and in {split} ({path}), expected "
                    "the images of a group in one split"
                )


def read_class_names(file: Path) -> list[str]:
    """Return the classes that a text file names, a line each; UserError for an empty line or a name given twice."""
    try:
        lines = read_text(file, RECORD_LIMIT, "utf-8-sig").removesuffix("\n").split("\n")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}, expected a text file with a class name per line") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    names = [line.strip() for line in lines]
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise UserError(f"{file}:{number}: an empty line, expected the name of class {number - 1}")
        if name in seen:
            raise UserError(f"{file}:{number}: {name!r} is the name of line {seen[name]} too, expected each name once")
        seen[name] = number
    return names
