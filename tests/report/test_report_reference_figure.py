"""The figure of the trained networks holds every one of them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from imbnas.report import reference_figure
from imbnas.report.reference_figure import draw_references


def network(macs: int, value: float) -> dict[str, Any]:
    return {"macs": macs, "balanced_accuracy": value, "intervals": {"balanced_accuracy": [value - 0.1, value + 0.1]}}


NETWORKS = {
    "final": network(100, 0.6),
    "random-1": network(98, 0.5),
    "random-2": network(103, 0.7),
    "random-10": network(101, 0.55),
    "largest": network(300, 0.65),
}
FOUND = {
    "random": {
        "networks": 3,
        "mean": {"balanced_accuracy": 0.58},
        "difference": {"balanced_accuracy": {"value": 0.02, "low": -0.1, "high": 0.14}},
    }
}


@pytest.mark.parametrize("found", [FOUND, None])
def test_every_network_is_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    kept: list[Any] = []
    real = reference_figure.drawing

    @contextmanager
    def watched(*arguments: Any) -> Any:
        with real(*arguments) as figure:
            yield figure
            kept.append(figure)

    monkeypatch.setattr(reference_figure, "drawing", watched)
    draw_references(tmp_path / "references.png", NETWORKS, found)
    (axes,) = kept[0].axes
    points = {(float(one.lines[0].get_xdata()[0]), float(one.lines[0].get_ydata()[0])) for one in axes.containers}
    assert points == {(one["macs"], one["balanced_accuracy"]) for one in NETWORKS.values()}
    assert [text.get_text() for text in axes.texts] == ["1", "2", "10"]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"chosen", "random", "largest"} <= set(names)
    assert len(names) == len(set(names))
    # The band is where a network would lie from which the chosen one could not be told.
    assert ("another random network, by these" in names) == (found is not None)
    if found is not None:
        (band,) = axes.patches
        assert band.get_y() == pytest.approx(0.6 - 0.14)
        assert band.get_y() + band.get_height() == pytest.approx(0.6 + 0.1)
    assert (tmp_path / "references.png").stat().st_size > 5_000
