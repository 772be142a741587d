"""The networks that are trained beside the chosen one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from imbnas.params.section import Section, short

MOST_RANDOM = 1000


class ReferencesParams(Section):
    """The networks that are trained beside the chosen one, by its recipe, for comparison."""

    random: Annotated[int, Field(ge=0, le=MOST_RANDOM)] = 4
    """Number of random subnets whose MACs are within 5 % of the chosen one's, or as near as the space has them.
    `references: true` stands for one and the largest, `false` for none."""
    largest: bool = True
    """Whether the largest subnet within the limits of the search is trained too."""

    @model_validator(mode="before")
    @classmethod
    def _mapping(cls, given: Any) -> Any:
        if given is not None and not isinstance(given, bool | dict | cls):
            raise ValueError(f"found {short(given)}, expected true, false or a mapping such as {{random: 4}}")
        return cls.spelled_out(given)

    @classmethod
    def spelled_out(cls, given: Any) -> Any:
        """Return what `true` and `false` stand for."""
        return {"random": int(given), "largest": given} if isinstance(given, bool) else given

    @property
    def count(self) -> int:
        """How many networks they are."""
        return self.random + self.largest


def or_truth(schema: dict[str, Any]) -> None:
    """Allow true and false in the JSON schema of a field of references."""
    schema["anyOf"] = [{"type": "boolean"}, {"$ref": schema.pop("$ref")}]
