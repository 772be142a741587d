"""`make ablation` on a tiny table: sharing, resumption, the page, and what its rule says."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
UNSCORED = 10**6


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    monkeypatch.syspath_prepend(ROOT / "tests/truth")


@pytest.fixture
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    import adaptation_statistics

    draws = adaptation_statistics.draws
    monkeypatch.setattr(adaptation_statistics, "draws", lambda statistic, count, resamples: draws(statistic, count, 50))


def test_every_change_has_valid_parameters_and_shares_what_it_does_not_touch() -> None:
    from ablation_changes import DEFAULT, FAMILIES, Lengths, together
    from ablation_scores import Ablation

    from imbnas.truth.places import Table

    other = {"dataset": "npz", "root": "cifar100.npz", "share": 0.5}
    ablation = Ablation(Table(ROOT / "tables/cifar10-lt-16.yaml", ROOT), "longtail", Lengths(6, 9), other)
    ablation._files = lambda params: []  # type: ignore[method-assign]
    folders = {name: ablation.folders(name, 1) for name in ablation.changes}
    own = {
        name: {step for step, path in found.items() if path != folders[DEFAULT].get(step)}
        for name, found in folders.items()
    }
    for name, change in ablation.changes.items():
        expected = {"supernet": {"supernet", "adapt"}, "adaptation": {"adapt"}}.get(change.family, set())
        assert own[name] == expected | ({"source"} & folders[name].keys()), name
    assert {change.family for change in ablation.changes.values()} == {DEFAULT, *FAMILIES}
    records = {name: ablation.record(name, 1) for name in ablation.changes}
    same = {name for name, path in records.items() if path == records[DEFAULT]}
    assert same >= {"accuracy", "25 validation rows per class", "cheapest within one error", "evolution, 12 cells"}
    assert not same & {"128 calibration rows", "supernet shifting", "cross-entropy", "other classes"}
    assert records[DEFAULT] != ablation.record(DEFAULT, 2)
    assert ablation.params("sandwich", 0).supernet.epochs * 4 == 6 * 5 + 2, "as many passes as five fair paths, rounded"
    assert ablation.params("other classes", 0).source.dataset == "npz"
    assert folders["other classes"]["source"] == ablation.folders("other classes", 7)["source"], "one for all seeds"
    joined = together(ablation.changes, ["half the rate", "cross-entropy", "25 validation rows per class"])
    assert (joined.tree["supernet"]["optimizer"]["lr"], joined.tree["adapt"]["loss"], joined.per_class) == (
        0.05,
        "ce",
        25,
    )


def test_fewer_validation_rows_are_drawn_anew_for_each_supernet_and_nested() -> None:
    from ablation_changes import Lengths
    from ablation_scores import Ablation

    from imbnas.truth.places import Table

    ablation = Ablation(Table(ROOT / "tables/cifar10-lt-16.yaml", ROOT), "longtail", Lengths())
    ablation.__dict__["labels"] = np.repeat(np.arange(3), 50)
    few, more, other = (set(ablation._drawn_rows(count, seed).tolist()) for count, seed in ((10, 0), (20, 0), (10, 1)))
    assert few < more
    assert few != other, "the luck of one draw would be in no interval"
    assert np.bincount(ablation.labels[sorted(few)]).tolist() == [10, 10, 10]


def test_a_change_excludes_what_it_leaves_without_effect() -> None:
    from ablation_changes import NONE, Lengths, changes

    table = {
        "space": {"stem": {"channels": 8}, "stages": {"channels": [8]}},
        "source": {"dataset": "cifar10", "share": 0.5},
        "target": {"dataset": "cifar10"},
    }
    found = changes(Lengths(), table, {"dataset": "cifar100", "root": "x", "share": 0.5})
    void = {name: {other for other in found if found[name].excludes(found[other])} - {name} for name in found}
    assert {"other classes", "cross-entropy", "class means"} <= void[NONE], "the source's head knows its classes alone"
    assert NONE in void["other classes"]
    assert {"cRT", "cached features", "class means"} <= void["finetune"]
    assert "cross-entropy" in void["class means"]
    assert "cross-entropy" not in void["finetune"], "finetuning has a loss"
    assert "other classes" not in void["finetune"]


@pytest.mark.pages
@pytest.mark.usefixtures("_few_resamples")
def test_an_ablation_is_resumed_shares_supernets_and_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rehearsal on digits: killed on the way, given again, and then only asked for the page."""
    import ablation
    import ablation_plan
    import ablation_scores
    import shared_steps
    from ablation_changes import SHIFTING
    from tiny_table import CELLS, row, write_spec

    from imbnas.truth.places import Table
    from imbnas.truth.trained_rows import write_rows

    wanted = ("default", "uniform paths", "cross-entropy", "128 calibration rows", "accuracy", "evolution, 12 cells")
    every = ablation_scores.changes

    def few(*a: Any) -> dict[str, Any]:
        found = {name: every(*a)[name] for name in (*wanted, "cheapest within one error", SHIFTING)}
        found[SHIFTING].tree["search"] |= {"population": 2, "generations": 2, "parents": 1}
        return found

    monkeypatch.setattr(ablation_scores, "changes", few)
    spec = write_spec(tmp_path)
    table = Table(spec, tmp_path)
    page = tmp_path / "page.md"
    arguments = ["x", str(spec), "--root", str(tmp_path), "--seeds", "2", "--supernet", "1", "--head", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(page)])
    assert ablation.main() == 2
    assert "tiny.parquet: " in capsys.readouterr().err, "before hours of work for a page that cannot be written"
    rows = [
        row(seed, cell, condition, 0.3 + 0.1 * place + 0.01 * seed, 1000 + place)
        for seed in range(2)
        for place, cell in enumerate(CELLS)
        for condition in ("balanced", "longtail")
    ]
    write_rows(table.beside(".parquet"), table.beside(".csv"), rows)
    steps: list[str] = []
    calls = itertools.count()
    run_step = shared_steps.run_step

    def counted(step: str, *a: Any, **k: Any) -> int:
        if next(calls) == 3:
            raise KeyboardInterrupt
        steps.append(step)
        return run_step(step, *a, **k)

    monkeypatch.setattr(shared_steps, "run_step", counted)
    assert ablation.main() == 143
    assert not page.exists()
    assert ablation.main() == 0
    assert (steps.count("supernet"), steps.count("adapt")) == (2 * 2, 2 * 3), (
        "default and cross-entropy share a supernet"
    )
    text = page.read_text()
    for name in (*wanted, SHIFTING, "macs", "synflow", "one training of each cell", "trained alone, balanced"):
        assert f"\n| {name} | " in text, name
    assert "What the rule says" in text
    assert "As one" not in text
    steps.clear()
    assert ablation.main() == 0
    assert (steps, page.read_text()) == ([], text)
    monkeypatch.setattr(sys, "argv", [*arguments, "--output", str(page), "--together", "cross-entropy", "accuracy"])
    assert ablation.main() == 0
    assert steps == ["supernet", "adapt", "adapt"] * 2, "new seeds for both"
    assert "Together: cross-entropy, accuracy.\n" in page.read_text()
    steps.clear()
    monkeypatch.setattr(sys, "argv", [*arguments, "--seeds", "3", "--only", "default"])
    assert (ablation.main(), steps) == (0, []), "alone: not what an earlier call has joined, with further seeds"
    monkeypatch.setattr(sys, "argv", [*arguments, "--only", "crossentropy"])
    assert ablation.main() == 2
    assert "error: --only crossentropy: expected some of default, uniform paths" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*arguments, "--seeds", "3", "--plan", "--together", "accuracy"])
    monkeypatch.setattr(ablation_plan, "each_training", lambda *a: (60.0, "a guess"))
    assert ablation.main() == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told[:2]] == ["default, supernets 3 to 5", "together, supernets 3 to 5"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--seeds", "3", "--plan"])
    assert ablation.main() == 0
    told = capsys.readouterr().out.splitlines()
    noted = next((tmp_path / ".imbnas").rglob("together-*.json"))
    assert json.loads(noted.read_text()) == ["cross-entropy", "accuracy"], "a plan notes nothing"
    assert told[-2].startswith("together, supernets 3 to 5: 1 of 3 done, ")
    assert told[0].startswith("default: 3 of 3 done, 0 minutes left"), "the third was made for the changes as one"
    assert told[1].startswith("uniform paths: 2 of 3 done, ")


def results(shift: float, seconds: float, seeds: int = 5) -> Any:
    """Return invented results: a change of the head whose scores are nearer to the truth by `shift`, and a search."""
    from ablation_changes import DEFAULT, Change
    from ablation_statistics import Ranked, Results, places_of

    rng = np.random.default_rng(3)
    truth = np.linspace(0.3, 0.4, 24)
    noise = 0.05 * rng.normal(size=(seeds, 24))
    macs = np.arange(24)
    scores = {DEFAULT: truth + noise, "other": truth + (1.0 - shift) * noise, "macs": -truth[None]}
    ranked = {name: Ranked(own, places_of(own, macs), 100.0) for name, own in scores.items()}
    ranked["other"] = Ranked(scores["other"], ranked["other"].places, seconds)
    few = np.full((seeds, 3, 24), UNSCORED)
    few[..., 0] = 0
    ranked["few cells"] = Ranked(scores[DEFAULT], few, 100.0)
    changes = {DEFAULT: Change(DEFAULT), "other": Change("adaptation", {"adapt": {"loss": "ce"}}, saves=True)}
    changes["few cells"] = Change("search", {"search": {"method": "random"}})
    return Results(changes, ranked, truth)


@pytest.mark.usefixtures("_few_resamples")
@pytest.mark.parametrize(
    ("shift", "seconds", "taken"),
    [
        (0.95, 100.0, {"other": "better"}),
        (0.95, 300.0, {}),
        (0.0, 50.0, {"other": "no worse, and cheaper"}),
        (0.0, 90.0, {}),
        (-2.0, 50.0, {}),
    ],
)
def test_the_rule_takes_what_is_better_at_its_price_or_cheaper_and_no_worse(
    shift: float, seconds: float, taken: dict[str, str]
) -> None:
    import ablation_page

    found = results(shift, seconds)
    assert found.taken() == taken
    told = ablation_page.verdict(found, ["macs"])
    assert "ranks better than: macs (of macs)." in told
    assert ("none; the defaults stay" in told) == (not taken)
    assert found.worse("few cells"), "a search that only sees the worst cell"
    assert float(found.gains["few cells", "regret of the top 1"][0].value) > 1.0
    assert ("few cells", "tau") not in found.gains
    found.changes["few cells"].tree["adapt"] = {"loss": "ldam"}
    assert found.changes["few cells"].excludes(found.changes["other"])
    assert found.least(["other"]) == (-0.05 if taken == {"other": "no worse, and cheaper"} else 0.0)
    assert found.least(["other", "few cells"]) == 0.0, "of which the rule does not take the second"


def test_regret_is_of_what_a_search_has_seen_and_ties_go_to_fewer_macs() -> None:
    from ablation_statistics import one_training, places_of, regret

    truth = np.array([0.1, 0.2, 0.3, 0.4])
    every = np.arange(4)
    places = places_of(np.array([[0.5, 0.5, 0.1, 0.2]]), np.array([9, 3, 1, 1]))
    assert places.tolist() == [[[1, 0, 3, 2]]]
    assert regret(places, truth, 1)(every) == pytest.approx([20.0])
    assert regret(places, truth, 3)(every) == pytest.approx([0.0])
    seen = np.array([[[0, UNSCORED, 1, UNSCORED], [UNSCORED, 0, UNSCORED, UNSCORED]]])
    assert regret(seen, truth, 1)(every) == pytest.approx([(30.0 + 20.0) / 2])
    assert regret(seen, truth, 5)(every) == pytest.approx([(10.0 + 20.0) / 2])
    # Ten searches that all see the same cell have the regret of one, to the last bit.
    one = np.tile(np.array([[[0, UNSCORED, UNSCORED, UNSCORED]]]), (1, 10, 1))
    assert regret(one, truth, 1)(every)[0] == regret(one[:, :1], truth, 1)(every)[0]
    tau, lost = one_training(np.array([truth, truth[::-1]]), np.array([truth, truth]))
    assert tau(every) == pytest.approx([1.0, -1.0])
    assert lost(every) == pytest.approx([0.0, 30.0])


def test_what_another_process_has_begun_comes_last(tmp_path: Path) -> None:
    from ablation import measure
    from shared_steps import turn

    from imbnas.progress import Log

    with turn(tmp_path / "a.lock") as own, turn(tmp_path / "a.lock", wait=False) as other:
        assert (own, other) == (True, False)
    with turn(tmp_path / "a.lock", wait=False) as own:
        assert own, "it is free again"
    asked: list[tuple[str, int, bool]] = []

    class Busy:
        """A table of which another process computes the first change, and of which the third is done."""

        def kept(self, name: str, seed: int) -> Any:
            return {} if name == "c" else None

        def answers(self, name: str, seed: int, wait: bool) -> Any:
            asked.append((name, seed, wait))
            return None if name == "a" and not wait else {"seconds": 1.0}

    measure(Busy(), ["a", "b", "c"], range(1), Log("test", silent=True))  # type: ignore[arg-type]
    assert asked == [("a", 0, False), ("b", 0, False), ("a", 0, True)]


@pytest.mark.usefixtures("_few_resamples")
def test_of_changes_that_set_the_same_parameter_the_best_is_taken() -> None:
    from ablation_changes import Change
    from ablation_statistics import Ranked

    found = results(0.95, 100.0)
    for name, tree in (("same", {"adapt": {"loss": "ldam"}}), ("apart", {"adapt": {"head": {"epochs": 3}}})):
        found.changes[name] = Change("adaptation", tree)
        scores = 0.9 * found.ranked["other"].scores + 0.1 * found.ranked["default"].scores
        found.ranked[name] = Ranked(scores, found.ranked["other"].places, 100.0)
    del found.changes["few cells"]
    assert set(found.taken()) == {"other", "apart"}
