"""Profiles of generation, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from imbnas.errors import UserError
from imbnas.longtail.profiles import generated_counts
from imbnas.params.synthesis_options import SynthesisParams

COUNTS = [5000, 997, 52, 25, 3, 1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # 0.2 n: 1000, 199.4, 10.4, 5, 0.6, 0.2, and five at the least.
        ({"profile": "published"}, [1000, 199, 10, 5, 5, 5]),
        ({"profile": "published", "share": 0.5, "least": 0}, [2500, 498, 26, 12, 2, 0]),
        ({"profile": "balanced"}, [0, 4003, 4948, 4975, 4997, 4999]),
        ({"profile": "ratio", "ratio": 10.0}, [0, 0, 448, 475, 497, 499]),
        ({"profile": "ratio", "ratio": 1.0}, [0, 4003, 4948, 4975, 4997, 4999]),
        # 5000 / 3 is 1666.67: with 1667 of each the ratio is at most 3.
        ({"profile": "ratio", "ratio": 3.0}, [0, 670, 1615, 1642, 1664, 1666]),
        ({"profile": "per-class", "per_class": 30}, [0, 0, 0, 5, 27, 29]),
    ],
)
def test_profiles_count_exactly(options: dict[str, Any], expected: list[int]) -> None:
    found = generated_counts(COUNTS, SynthesisParams(**options)).tolist()
    assert found == expected
    if options["profile"] in ("balanced", "ratio"):
        total = [real + more for real, more in zip(COUNTS, found, strict=True)]
        assert max(total) == max(COUNTS)
        assert max(total) / min(total) <= options.get("ratio", 1.0)


def test_a_class_without_rows_is_refused() -> None:
    with pytest.raises(UserError, match="class"):
        generated_counts([5, 0], SynthesisParams())
