"""Figures of architectures and of differentiable searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imbnas.report.architecture import depths, draw_architecture
from imbnas.report.trajectory import draw_trajectory
from imbnas.spaces.chain import Outline
from imbnas.spaces.darts import DartsSpace, Size
from imbnas.spaces.darts_ops import OPERATIONS
from imbnas.spaces.drawing import Graph, graphs
from imbnas.spaces.nasbench201 import NasBench201Space
from imbnas.spaces.shufflenet import ShuffleNetSpace

DARTS = DartsSpace(Size(4, 4), Size(4, 4), OPERATIONS)
CELL = NasBench201Space(Outline(4, 1, (4, 8), (1, 1), (1, 2), None))
CHAIN = ShuffleNetSpace(Outline(8, 1, (8, 16), (4, 4), (1, 2), 16), ["shuffle3", "xception"])


def test_graphs_hold_the_chosen_edges() -> None:
    normal, reduction = graphs(DARTS, (0, 0, 0, 0, 62, 1, 2, 3))
    assert normal.edges[0] == ("input 1", "node 1", "max_pool_3x3")
    assert len(normal.edges) == 8 + 4
    assert len(reduction.edges) == 7 + 4, "its first node has a single edge"
    assert reduction.edges[0] == ("input 2", "node 1", "dil_conv_5x5")
    (cell,) = graphs(CELL, (3, 0, 1, 0, 0, 4))
    assert cell.edges == (
        ("node 0", "node 1", "nor_conv_3x3"),
        ("node 1", "node 2", "skip_connect"),
        ("node 2", "node 3", "avg_pool_3x3"),
    )
    (chain,) = graphs(CHAIN, (1,) * 8)
    assert chain.edges[0][:2] == ("image", "stage 1 block 1")
    assert len(chain.edges) == 8


def test_depths_are_longest_ways() -> None:
    graph = Graph("", (("a", "c", ""), ("b", "c", "x"), ("a", "b", "y"), ("c", "d", "")))
    assert depths(graph) == {"a": 0, "b": 1, "c": 2, "d": 3}


@pytest.mark.parametrize("case", ["darts", "cell", "chain", "empty"])
def test_drawings_are_the_same_bytes_each_time(case: str, tmp_path: Path) -> None:
    found = {
        "darts": lambda: graphs(DARTS, DARTS.sample(np.random.default_rng(0))),
        "cell": lambda: graphs(CELL, (3, 2, 1, 4, 0, 4)),
        "chain": lambda: graphs(CHAIN, (1,) * 8),
        "empty": lambda: graphs(CELL, (0,) * 6),
    }[case]()
    for name in ("first", "second"):
        draw_architecture([tmp_path / name / f"architecture.{kind}" for kind in ("png", "svg")], found)
    for kind in ("png", "svg"):
        assert (tmp_path / f"first/architecture.{kind}").read_bytes() == (
            tmp_path / f"second/architecture.{kind}"
        ).read_bytes()
    svg = (tmp_path / "first/architecture.svg").read_text()
    assert "matplotlib" not in svg.split("<defs>")[0].lower().replace("created with matplotlib", "")
    assert "<dc:date>" not in svg


def test_a_trajectory_is_drawn_with_what_was_measured_and_without(tmp_path: Path) -> None:
    epochs = pd.DataFrame(
        {
            "generation": range(6),
            "score": np.linspace(0.2, 0.8, 6),
            "train_loss": np.linspace(2.0, 1.0, 6),
            "search_loss": np.linspace(2.1, 1.2, 6),
            "architecture_rate": 3e-4 * (1 - (np.arange(6) / 6) ** 2),
            "mixing": 1 - (np.arange(6) / 6) ** 2,
            "entropy": np.linspace(2.08, 1.9, 6),
            "eigenvalue": np.nan,
            "skips_normal": [0, 1, 2, 2, 4, 5],
            "skips_reduce": [0, 0, 1, 1, 1, 1],
        }
    )
    draw_trajectory(tmp_path / "all.png", epochs, "balanced_accuracy")
    draw_trajectory(tmp_path / "less.png", epochs.assign(score=np.nan, mixing=np.nan), "balanced_accuracy")
    assert Image.open(tmp_path / "all.png").size == (1440, 960)
    assert (tmp_path / "all.png").read_bytes() != (tmp_path / "less.png").read_bytes()
