"""The base of every parameter model, and the line that a user reads when a value is wrong."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self, TypeGuard, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from imbnas.errors import UserError
from imbnas.params.origins import Origins

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Section(BaseModel):
    """A section of params.yaml: frozen, strict (no silent conversion), unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def spelled_out(cls, given: Any) -> Any:
        """Return the mapping that a shorter form of the section stands for; anything else as it is."""
        return given

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, given: Any) -> Any:
        """Refuse true and false where numbers are listed: to Python true equals 1, and so it does to a Literal."""
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            value, numbers = given.get(field.alias or name), _listed_numbers(field.annotation)
            if numbers and any(isinstance(item, bool) for item in (value if isinstance(value, list) else [value])):
                found = ", ".join(map(str, numbers))
                raise ValueError(f"{field.alias or name} is {short(value)}, expected one of {found}")
        return given


class View(BaseModel):
    """The part of the parameters that one step may see, so that nothing else can influence its outputs."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    @classmethod
    def of(cls, tree: dict[str, Any]) -> Self:
        """Return the view cut out of a complete, already validated parameter tree (JSON values)."""
        return cls.model_validate_json(json.dumps(_cut(cls, tree)))

    @classmethod
    def uses(cls, root: type[BaseModel]) -> list[str]:
        """Return the dotted parameter names that the view holds, as Snakemake and DVC declare them.

        A field whose model is the one `root` has there counts as a whole; a narrower model counts leaf by leaf.
        """
        names: list[str] = []
        for name, field in cls.model_fields.items():
            model = field.annotation
            whole = root.model_fields[name].annotation == model
            if whole or not is_model(model):
                names.append(name)
            else:
                names += [f"{name}.{leaf}" for leaf in model.model_fields]
        return sorted(names)


def merged(model: type[BaseModel], tree: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tree` with `more` put over it; both are trees of `model`, in JSON values.

    Sections are merged, anything else is replaced whole: lists, and mappings whose keys are the user's (`study.axes`).
    A section's shorter form counts as the mapping that it stands for.
    """
    sections = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    result = dict(tree)
    for key, value in more.items():
        section, present = sections.get(key), result.get(key)
        if is_section(section):
            present, value = section.spelled_out(present), section.spelled_out(value)
        if is_model(section) and isinstance(present, Mapping) and isinstance(value, Mapping):
            result[key] = merged(section, present, value)
        else:
            result[key] = value
    return result


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Return whether a field's type is a model, hence the field a section."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def is_section(annotation: Any) -> TypeGuard[type[Section]]:
    """Return whether a field's type is a section of params.yaml."""
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _listed_numbers(annotation: Any) -> list[int]:
    """Return the numbers among the values that a type lists, in a list of them too."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if type(value) is int]
    return [number for inner in get_args(annotation) for number in _listed_numbers(inner)]


def _cut(model: type[BaseModel], tree: dict[str, Any]) -> dict[str, Any]:
    """Keep only the keys that `model` declares, one level of models down."""
    cut: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        value, inner = tree[name], field.annotation
        if is_model(inner) and isinstance(value, dict):
            value = {key: item for key, item in value.items() if key in inner.model_fields}
        cut[name] = value
    return cut


def explain(error: ValidationError, model: type[BaseModel], file: str | Origins) -> UserError:
    """Return pydantic's complaint about a tree for `model` as one line.

    It names the file, the dotted parameter, what was found and what was expected. A model's own check (a ValueError
    in a model validator) must begin with the name of a parameter, relative to the model.
    """
    problems: dict[str, list[_Problem]] = {}
    for details in error.errors(include_url=False):
        problem = _Problem(details, model)
        problems.setdefault(problem.dotted, []).append(problem)
    # A misspelt name is unknown and the right one is missing: the first says more.
    first = min(problems.values(), key=lambda group: group[0].kind != "extra_forbidden")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    sentence = _sentence(first)
    return UserError(f"{file.of(sentence) if isinstance(file, Origins) else file}: {sentence}{more}")


class _Problem:
    """One complaint of pydantic, its place found in the model."""

    def __init__(self, details: ErrorDetails, model: type[BaseModel]) -> None:
        self.kind = details["type"]
        self.found = details["input"]
        self.message = details["msg"]
        self.context = details.get("ctx", {})
        self.dotted = ""
        self.key = str(details["loc"][-1]) if details["loc"] else ""
        self.names: list[str] = []
        inner: Any = model
        for part in details["loc"]:
            if is_model(inner):
                fields = {field.alias or name: field.annotation for name, field in inner.model_fields.items()}
                self.dotted += f".{part}" if self.dotted else str(part)
                self.names, inner = list(fields), fields.get(str(part))
            elif isinstance(part, int):
                self.dotted += f"[{part}]"
            elif get_origin(inner) is dict:
                self.dotted += f".{part}"
                inner = get_args(inner)[1]
            # What else follows a parameter is pydantic's name for a branch of its union.
        self.of_model = is_model(inner)
        self.dotted = " ".join(self.dotted.split())

    def expected(self) -> str:
        """Return what would have been right, in words."""
        if self.kind == "literal_error":
            return str(self.context["expected"]).replace("'", "")
        words = _EXPECTED.get(self.kind)
        limits = {key: f"{limit:g}" if isinstance(limit, float) else limit for key, limit in self.context.items()}
        return words.format(**limits) if words else self.message.removeprefix("Input should be ")


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping of parameters",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "string_too_long": "at most {max_length} characters",
}


def _sentence(group: list[_Problem]) -> str:
    """Return the line for the complaints about one parameter: several where it may be one thing or another."""
    first = group[0]
    if first.kind == "extra_forbidden":
        if "." in first.key:
            outer, inner = first.key.rsplit(".", 1)
            nested = f"{outer.replace('.', ': {')}: {{{inner}: {json.dumps(first.found, default=repr)}}}"
            return f"{first.dotted}: a name with a dot, expected {nested}{'}' * outer.count('.')}"
        name = first.dotted.rpartition(".")[2]
        close = difflib.get_close_matches(name, first.names, 1)
        known = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(first.names)}"
        return f"{first.dotted}: unknown parameter, {known}"
    if first.kind == "missing":
        return f"{first.dotted}: missing, expected a value"
    if first.kind == "value_error":
        separator = "" if not first.dotted else "." if first.of_model else ": "
        return f"{first.dotted}{separator}{first.context['error']}"
    expected = " or ".join(dict.fromkeys(problem.expected() for problem in group))
    return f"{first.dotted}: found {short(first.found)}, expected {expected}{_hint(group)}"


def short(value: object) -> str:
    """Return a value as a user wrote it in YAML or JSON, in at most 60 characters."""
    text = f"text {value!r}" if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(group: list[_Problem]) -> str:
    """Tell how to write a number that arrived as text: to YAML 1.1, 1e-3 without a point is text."""
    found, kinds = group[0].found, {problem.kind for problem in group}
    if not isinstance(found, str) or not kinds & {"float_type", "int_type"}:
        return ""
    try:
        number = float(found)
    except ValueError:
        return ""
    whole = number.is_integer() and abs(number) < 1e15
    if not math.isfinite(number) or not (whole or "float_type" in kinds):
        return ""
    text = str(int(number)) if whole else repr(number)
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return f"; to YAML that is text, write {text}"
