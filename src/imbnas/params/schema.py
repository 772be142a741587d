"""The JSON schema of params.yaml as a file, for completion and checks in editors."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel

from imbnas.params.config import Params
from imbnas.params.section import Section


def schema_text() -> str:
    """Return the schema as indented JSON, the content of params.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON schema of params.yaml, which editors use for completion and checks."""
    describe(Params)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Params.model_json_schema(by_alias=True),
    }


def describe(model: type[BaseModel]) -> None:
    """Give the fields of a model and of those below it their docstrings as descriptions, for a JSON schema.

    Pydantic's own option reads the source files whenever a model is imported, for which every command would wait.
    """
    for field in model.model_fields.values():
        for inner in _models(field.annotation):
            describe(inner)
    for name, text in _docstrings(model):
        model.model_fields[name].description = text
    model.model_rebuild(force=True)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation, those of a union or a list too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the fields that a model or one of its bases declares and what stands below each of them."""
    for base in reversed(model.__mro__):
        if not issubclass(base, Section) or base is Section:
            continue
        if base.__name__ not in vars(sys.modules[base.__module__]):
            continue  # made from a table, which has described its fields
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in pairwise(body.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                text = ast.literal_eval(below.value)
                assert isinstance(text, str)
                yield field.target.id, inspect.cleandoc(text)
