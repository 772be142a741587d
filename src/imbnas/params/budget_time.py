"""Times as a person writes them: 90s, 30m, 2h."""

from __future__ import annotations

import re

from imbnas.errors import UserError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_budget(text: str) -> float:
    """Return the seconds that `30m`, `2h` or `90s` means; UserError for anything else."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", text)
    if found is None or not float(found[1]):
        raise UserError(f"--budget {text}: expected a time such as 30m, 2h or 90s")
    return float(found[1]) * _UNITS[found[2]]
