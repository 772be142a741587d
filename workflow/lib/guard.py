"""What Snakemake calls while it builds its graph, guarded: no exception may leave such a function.

Snakemake takes an exception in an input function for "this rule cannot make the file", and where the file is there
already it says nothing and passes over the rule. What is stale is then called up to date.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

from imbnas.errors import UserError, naming_files, visible

Function = TypeVar("Function", bound=Callable[..., Any])
GUARDED = "imbnas_guarded"
"""Attribute of a function that `guarded` has returned."""


def guarded(function: Function) -> Function:
    """Return `function` for Snakemake to call: an exception in it ends this process with one line.

    Its signature stays, as Snakemake hands over what the names of the arguments ask for. What is called while the
    Snakefile is read is guarded as well: the line is the same.
    """

    @wraps(function)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            with naming_files():
                return function(*args, **kwargs)
        except Exception as error:
            end(error)

    setattr(answer, GUARDED, True)
    return answer  # type: ignore[return-value]


def end(error: Exception) -> NoReturn:
    """End this process with a line that tells `error`; SystemExit is no `Exception`, which Snakemake would take."""
    if isinstance(error, UserError):
        sys.exit(f"error: {error}")
    if isinstance(error, OSError):
        # One without a file's name.
        sys.exit(f"error: {visible(error.strerror or error)}: while the workflow was planned")
    last = traceback.extract_tb(error.__traceback__)[-1]
    sys.exit(f"error: {type(error).__name__}: {visible(error)} ({last.filename}:{last.lineno})")
