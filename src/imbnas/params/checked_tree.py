"""The way from a tree of plain values to a checked model, or to one line that says what is wrong with the tree."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import ValidationError

from imbnas.errors import UserError
from imbnas.params.origins import Origins
from imbnas.params.section import Section, explain, merged, short

Model = TypeVar("Model", bound=Section)


def checked(model: type[Model], defaults: dict[str, Any], tree: Any, file: str | Origins) -> Model:
    """Return the model of a tree (JSON values) laid over its defaults, or raise UserError that names `file`."""
    if not isinstance(tree, dict):
        found = "nothing" if tree is None else short(tree)
        raise UserError(f"{file}: found {found}, expected a mapping of sections")
    try:
        plain = json.loads(json.dumps(tree, default=_not_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise _not_plain_data(file, error) from None
    try:
        return model.model_validate_json(json.dumps(merged(model, defaults, plain)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            # Levels without end, or a character that no text holds.
            raise _not_plain_data(file, first["ctx"]["error"]) from None
        raise explain(error, model, file) from None


def _not_plain(value: object) -> str:
    raise TypeError(f"found {value} of type {type(value).__name__}")


def _not_plain_data(file: str | Origins, found: object) -> UserError:
    return UserError(f"{file}: not plain data: {found}; expected text, numbers, lists and mappings")
