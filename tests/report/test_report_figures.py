from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image

from imbnas.longtail.shots import shot_groups
from imbnas.report import style
from imbnas.report.classes import draw_classes, spans, wilson
from imbnas.report.confusion import confusion, draw_confusion
from imbnas.report.norms import NORMS, draw_weights
from imbnas.report.reliability import calibration_error, draw_reliability
from imbnas.report.scores import Answers, Protocol, reliability
from imbnas.report.search_figure import Reference, draw_search, pareto_front


def class_table(
    counts: list[int], networks: tuple[str, ...] = ("final",), names: list[str] | None = None
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    classes = names or [f"class {k}" for k in range(len(counts))]
    parts = [
        pd.DataFrame(
            {
                "network": network,
                "label": np.arange(len(counts)),
                "class": classes,
                "count": counts,
                "group": shot_groups(counts, "kang"),
                "support": 20,
                "recall": rng.random(len(counts)).round(2),
                "norm": rng.random(len(counts)).round(2) + 0.5,
            }
        )
        for network in networks
    ]
    return pd.concat(parts, ignore_index=True)


def candidates(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    score = rng.random(rows)
    return pd.DataFrame(
        {
            "generation": np.arange(rows) // 10,
            "architecture": [str(k) for k in range(rows)],
            "score": score,
            "standard_error": 0.02,
            "macs": rng.integers(1_000_000, 5_000_000, rows),
            "chosen": score == score.max(),
        }
    )


def draw_all(folder: Path, classes: int = 10) -> dict[str, bytes]:
    counts = np.maximum(1000 * 0.01 ** (np.arange(classes) / classes), 1).astype(int)
    names = [f"class {k}" for k in range(classes)]
    rng = np.random.default_rng(1)
    actual, predicted = np.repeat(np.arange(classes), 5), rng.integers(0, classes, 5 * classes)
    draw_classes(folder / "classes.png", class_table(list(counts), ("final", "random")), "rule")
    draw_confusion(folder / "confusion.png", actual, predicted, names, counts, np.array(shot_groups(counts, "kang")))
    draw_weights(folder / "weights.png", class_table(list(counts), ("final", "random")), "linear", "rule")
    sure = rng.random(5 * classes).astype(np.float32)
    bins = reliability(Answers(actual, predicted, sure), Protocol(counts, "kang", 15, 0.95, 10, 0))
    draw_reliability(folder / "reliability.png", bins, {"all": (0.1, 0.2)}, "bin rule " * 30)
    references = [Reference("random", "3", 2_000_000), Reference("largest", "none", 6_000_000)]
    draw_search(folder / "search.png", candidates(40), references, "balanced_accuracy", 5_500_000)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def chunks(png: bytes) -> list[bytes]:
    kinds, place = [], 8
    while place < len(png):
        kinds.append(png[place + 4 : place + 8])
        place += 12 + int.from_bytes(png[place : place + 4], "big")
    return kinds


class TestBytes:
    def test_same_drawing_same_bytes_whatever_the_users_style(self, tmp_path: Path) -> None:
        first = draw_all(tmp_path / "a")
        with mpl.rc_context({"font.size": 22, "axes.facecolor": "black", "savefig.dpi": 30, "text.parse_math": True}):
            before = mpl.rcParams["font.size"]
            second = draw_all(tmp_path / "b")
            assert mpl.rcParams["font.size"] == before
        assert sorted(first) == ["classes.png", "confusion.png", "reliability.png", "search.png", "weights.png"]
        assert first == second

    def test_no_text_in_the_file(self, tmp_path: Path) -> None:
        for name, png in draw_all(tmp_path).items():
            assert set(chunks(png)) <= {b"IHDR", b"IDAT", b"IEND", b"pHYs"}, name

    def test_parts_lie_where_matplotlib_lays_them_out_when_it_saves(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = []
        for name in ("before.png", "while.png"):
            with style.drawing(tmp_path / name, 4.0, 3.0) as figure:
                for axes in figure.subplots(1, 2, sharey=True):
                    axes.plot([1, 200, 3000], label="a long name")
                    axes.set_title("two\nlines", loc="center")
                    axes.set_ylabel("share")
                figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
            drawn.append((tmp_path / name).read_bytes())
            monkeypatch.setattr(style, "_lay_out", lambda figure: None)
        assert drawn[0] == drawn[1]

    def test_font_comes_with_matplotlib(self) -> None:
        found = Path(findfont(FontProperties(family=style._FONT)))
        assert Path(mpl.get_data_path()) in found.parents

    def test_a_failed_drawing_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), style.drawing(tmp_path / "x.png", 2, 2):
            raise ZeroDivisionError
        assert list(tmp_path.iterdir()) == []


class TestSizes:
    @pytest.mark.parametrize("classes", [2, 30, 1000])
    def test_any_number_of_classes_without_warnings(self, tmp_path: Path, classes: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = draw_all(tmp_path, classes)
        sizes = {name: Image.open(tmp_path / name).size for name in drawn}
        wide, high = sizes.pop("reliability.png")
        assert wide == {2: 1456, 30: 1888, 1000: 1888}[classes]
        assert high == 832
        flat = {name: (1280, 800) for name in ("classes.png", "search.png", "weights.png")}
        assert sizes == {"confusion.png": (1312, 1312), **flat}

    @pytest.mark.parametrize("counts", [[5, 5, 5], [0, 7], [40, 32], [1, 100_000]])
    def test_odd_counts(self, tmp_path: Path, counts: list[int]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw_classes(tmp_path / "c.png", class_table(counts), "rule")
            for head in NORMS:
                draw_weights(tmp_path / f"{head}.png", class_table(counts), head, "rule")
            draw_weights(tmp_path / "zeros.png", class_table(counts).assign(norm=0.0), "linear", "rule")
        assert len({(tmp_path / f"{name}.png").read_bytes() for name in (*NORMS, "zeros")}) == len(NORMS) + 1

    def test_class_without_test_images_is_left_out(self, tmp_path: Path) -> None:
        table = class_table([50, 30, 10])
        draw_classes(tmp_path / "a.png", table[table["label"] != 1], "rule")
        table.loc[1, ["support", "recall"]] = [0, np.nan]
        draw_classes(tmp_path / "b.png", table, "rule")
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_odd_names(self, tmp_path: Path) -> None:
        names = ["$x_{1}$", "猫", "a" * 60, " ", "50% & <b>"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            draw_classes(tmp_path / "c.png", class_table([500, 100, 50, 20, 5], names=names), "rule")

    def test_search_without_scores(self, tmp_path: Path) -> None:
        table = candidates(1).assign(score=np.nan, standard_error=np.nan)
        draw_search(tmp_path / "s.png", table, [], "accuracy", None)
        assert Image.open(tmp_path / "s.png").size == (1280, 800)


class TestReadable:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("cat", "cat"),
            ("a" * 18, "a" * 18),
            ("a" * 19, "a" * 17 + "…"),
            ("aaaaaaaaaaaaaaaa bbb", "aaaaaaaaaaaaaaaa…"),
            ("Äpfel", "Äpfel"),
            ("猫", "class 7"),
            (" ", "class 7"),
        ],
    )
    def test_names(self, name: str, shown: str) -> None:
        assert style.readable(name, 7) == shown


class TestSpans:
    def test_meet_half_way_on_the_log_scale(self) -> None:
        counts = np.array([400.0, 200.0, 50.0, 20.0, 5.0])
        groups = np.array(["many", "many", "medium", "medium", "few"])
        assert spans(counts, groups, 1.0, 1000.0) == {
            "few": (1.0, 10.0),
            "medium": (10.0, 100.0),
            "many": (100.0, 1000.0),
        }

    def test_absent_groups_have_none(self) -> None:
        assert spans(np.array([9.0, 4.0]), np.array(["few", "few"]), 1.0, 20.0) == {"few": (1.0, 20.0)}


class TestWilson:
    def test_golden_values(self) -> None:
        low, high = wilson(np.array([0.5, 1.0, 0.0]), np.array([100.0, 10.0, 10.0]))
        assert low == pytest.approx([0.403832, 0.722460, 0.0], abs=1e-5)
        assert high == pytest.approx([0.596168, 1.0, 0.277540], abs=1e-5)

    @given(st.integers(1, 500), st.data())
    @settings(deadline=None)
    def test_holds_the_share_inside_the_unit_interval(self, support: int, data: st.DataObject) -> None:
        share = data.draw(st.integers(0, support)) / support
        low, high = wilson(np.array([share]), np.array([float(support)]))
        assert -1e-12 <= low[0] <= share <= high[0] <= 1 + 1e-12


class TestConfusion:
    def test_rows_follow_counts(self) -> None:
        table = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), np.array([5, 50, 20]), 3)
        assert table.order.tolist() == [1, 2, 0]
        assert table.matrix.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
        assert not table.pooled

    def test_equal_counts_keep_label_order(self) -> None:
        assert confusion(np.array([0]), np.array([0]), np.array([3, 9, 3]), 3).order.tolist() == [1, 0, 2]

    def test_pools_neighbours_in_count(self) -> None:
        table = confusion(np.arange(4), np.array([1, 1, 3, 0]), np.array([1, 10, 100, 1000]), 2)
        assert table.bins.tolist() == [1, 1, 0, 0]
        assert table.matrix.tolist() == [[1, 1], [0, 2]]
        assert table.heads.tolist() == [3, 1]
        assert table.pooled

    @given(st.integers(2, 40), st.integers(1, 50), st.integers(0, 5))
    @settings(deadline=None)
    def test_every_image_is_counted_once(self, classes: int, most: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        actual, predicted = rng.integers(0, classes, (2, 60))
        counts = rng.integers(1, 9, classes)
        table = confusion(actual, predicted, counts, most)
        assert table.matrix.sum() == 60
        assert (
            table.matrix.sum(axis=1).tolist() == np.bincount(table.bins[actual], minlength=len(table.matrix)).tolist()
        )
        sizes = np.bincount(table.bins)
        assert len(sizes) == min(classes, most)
        assert sizes.max() - sizes.min() <= 1
        assert (np.diff(counts[table.order]) <= 0).all()


class TestReliability:
    def test_bins_by_hand(self) -> None:
        """Two bins; rows of class 0 (many) and class 1 (few), none medium."""
        answers = Answers(np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1]), np.array([0.5, 0.75, 1.0, 0.25]))
        table = reliability(answers, Protocol(np.array([200, 5]), "kang", 2, 0.95, 10, 0))
        assert table["group"].tolist() == ["all", "all", "many", "many", "few", "few"]
        assert table["rows"].tolist() == [2, 2, 1, 2, 1, 0]
        assert table["confidence"].tolist()[:5] == [0.375, 0.875, 0.5, 0.875, 0.25]
        assert table["accuracy"].tolist()[:5] == [1.0, 0.5, 1.0, 0.5, 1.0]
        assert calibration_error(table[table["group"] == "all"]) == (0.625 * 2 + 0.375 * 2) / 4
        assert calibration_error(table[table["group"] == "few"]) == 0.75


class TestParetoFront:
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
    @settings(deadline=None)
    def test_holds_what_nothing_beats(self, points: list[tuple[int, int]]) -> None:
        cost, score = (np.array(column) for column in zip(*points, strict=True))
        front = {points[place] for place in pareto_front(cost, score)}
        unbeaten = {(c, s) for c, s in points if not any((a <= c and b > s) or (a < c and b >= s) for a, b in points)}
        assert front == unbeaten


def test_report_does_not_need_torch() -> None:
    modules = (
        "classes, compare, compare_tables, confusion, plots, reliability, scores, search_figure, style, tables, norms, "
    )
    modules += "front_figure, front_table, search_facts"
    code = f"import sys; from imbnas.report import {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
