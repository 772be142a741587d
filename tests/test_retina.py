"""`make retina` on invented images: what its arms share, its plan, what its rule says, and a rehearsal."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain

from imbnas.files import digest_file
from imbnas.inspection.trial import Pace
from imbnas.run.graph import PATHS

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"train": (24, 16, 12, 8, 8), "val": (2,) * 5, "test": (4,) * 5}


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with grey images of 8 pixels in five unequal grades, in the layout of the published file."""
    folder, rng, arrays = tmp_path_factory.mktemp("retina"), np.random.default_rng(0), {}
    for split, sizes in SIZES.items():
        labels = np.repeat(np.arange(5, dtype=np.uint8), sizes)
        noise = rng.integers(0, 60, (len(labels), 8, 8))
        arrays |= {f"{split}_images": (noise + 40 * labels[:, None, None]).astype(np.uint8)}
        arrays |= {f"{split}_labels": labels[:, None]}
    np.savez(folder / "retinamnist.npz", **arrays)  # type: ignore[arg-type]
    return folder


def small(data: Path) -> dict[str, Any]:
    """Return what brings the chain down to the tiny one's space, so that its supernet is the one that ships."""
    own = {"dataset": "npz", "name": None, "size": None, "root": str(data / "retinamnist.npz")}
    recipe = {"head": {"epochs": 1}}
    return {
        "space": tiny_chain.PARAMS["space"],
        "source": {**own, "validation": {"per_class": 1}},
        "target": {**own, "image_size": 8, "channels": 1},
        "supernet": {"epochs": 1, "probe_paths": 1},
        "adapt": recipe,
        "search": {"population": 4, "generations": 1, "parents": 2, "calibration": {"rows": 16}},
        "evaluate": {"resamples": 10},
    }


def arms(tmp_path: Path, chain: Path, data: Path) -> Any:
    from retina_arms import Arms, Setting

    return Arms(tmp_path, Setting(seeds=2, random=1, epochs=1), chain / PATHS["supernet"], small(data))


def test_all_arms_train_on_the_same_rows_by_one_recipe(tmp_path: Path, chain: Path, data: Path) -> None:
    from retina_arms import CONTROL, FIRST, HANDED, NCM, PLAIN, SEARCH, THEN

    own = arms(tmp_path, chain, data)
    cells = {job: own.expected(job, 1).cells[0] for job in (*FIRST, *THEN)}
    assert {params.retrain.rows for params in cells.values()} == {"all"}
    trained = {job: params.retrain.acting for job, params in cells.items() if job != NCM}
    for name in ("epochs", "batch_size", "schedule", "augment", "mixing", "label_smoothing"):
        assert len({str(getattr(recipe, name)) for recipe in trained.values()}) == 1, name
    assert (trained[HANDED].optimizer.lr, trained[SEARCH].optimizer.lr) == (0.02, 0.1)
    assert cells[NCM].retrain.acting.epochs == 0
    assert cells[PLAIN].search.architecture == [0, 0, 0], "ShuffleNetV2's own block everywhere"
    digest = digest_file(chain / PATHS["supernet"])
    assert {cells[job].supernet.reuse_sha256 for job in (*FIRST, *THEN) if job != CONTROL} == {digest}
    assert cells[CONTROL].supernet.reuse is None
    assert cells[CONTROL].space == cells[SEARCH].space
    plans = {job: own.expected(job, 1).plan.cells[0] for job in (*FIRST, *THEN)}
    assert len({plans[job]["adapt"] for job in (*FIRST, *THEN) if job != CONTROL}) == 1, "one adaptation for all"


def test_a_file_of_another_space_is_refused_before_anything_trains(tmp_path: Path, chain: Path, data: Path) -> None:
    from retina_arms import Arms, Setting

    from imbnas.errors import UserError

    with pytest.raises(UserError, match=r"supernet\.reuse: .* its space\.last_channels is 16, expected 256"):
        Arms(tmp_path, Setting(), chain / PATHS["supernet"])


@pytest.mark.parametrize(("chosen", "answers"), [(0.9, ["yes", "yes"]), (0.5, ["not shown", "no"])])
def test_an_answer_needs_all_its_differences(chosen: float, answers: list[str]) -> None:
    from retina_arms import JOBS
    from retina_page import QUESTIONS, differences, verdict

    labels, rng = np.repeat([0, 1], 200), np.random.default_rng(0)
    shares = dict.fromkeys(JOBS, 0.5) | {"chosen": chosen, "chosen, class means": 0.7 if chosen < 0.7 else 0.5}
    networks = {arm: [[answers_of(labels, share, rng)] for _ in range(5)] for arm, share in shares.items()}
    found = differences(networks)
    told = dict(zip(QUESTIONS, verdict(found).splitlines(), strict=True))
    search, means = "the search earns its keep", "a training from scratch is worth it beside class means"
    assert [told[question].split("**")[1] for question in (search, means)] == answers
    weights = "the shipped supernet's weights are worth inheriting"
    assert told[weights].split("**")[1] == ("no" if chosen == 0.9 else "not shown")
    one = found["chosen", "random, equal cost"]
    assert one.detectable > 3.0 * float(one.estimate.error), "more than an uncorrected level asks for"


def answers_of(labels: np.ndarray, share: float, rng: np.random.Generator) -> Any:
    from trained_networks import Answered

    right = rng.random(len(labels)) < share
    return Answered("0-0", right.astype(float), labels, np.where(right, labels, 1 - labels), 9, None)


def test_kappa_punishes_far_grades_more() -> None:
    from trained_networks import Answered

    labels = np.repeat([0, 1, 2], 10)

    def kappa(wrong: int) -> float:
        predicted = labels.copy()
        predicted[0] = wrong
        return Answered("0", (predicted == labels).astype(float), labels, predicted, 1, None).kappa

    assert 1.0 > kappa(1) > kappa(2) > 0.0


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures of `evaluate`, which no page of results looks at."""
    for name in ("draw_figures", "draw_references"):
        monkeypatch.setattr(f"imbnas.steps.evaluate.{name}", lambda *a, **k: None)


@pytest.mark.pages
@pytest.mark.usefixtures("undrawn")
def test_all_arms_are_trained_once_and_told(
    tmp_path: Path, chain: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import retina
    import study_jobs
    from retina_arms import JOBS

    monkeypatch.setattr(retina, "data_changes", small)
    monkeypatch.setattr(retina, "trial", lambda *a: Pace(0.01, 0.004, 0.0, "cpu", 8, 4))
    calls, steps, run_step = itertools.count(), list[str](), study_jobs.run_step

    def counted(step: str, *a: Any, **k: Any) -> int:
        if next(calls) == 8:
            raise KeyboardInterrupt
        steps.append(step)
        return run_step(step, *a, **k)

    monkeypatch.setattr(study_jobs, "run_step", counted)
    page = tmp_path / "page.md"
    arguments = ["x", "--data", str(data), "--supernet", str(chain / PATHS["supernet"]), "--work", str(tmp_path / "w")]
    arguments += ["--seeds", "2", "--random", "1", "--epochs", "1", "--output", str(page)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--plan"])
    assert retina.main() == 0
    told = capsys.readouterr().out
    assert "chosen, class means | largest within the limit, class means: 4 jobs left, " in told
    assert "chosen, inherited weights: 6 jobs left, " in told
    assert steps == []
    monkeypatch.setattr(sys, "argv", arguments)
    assert (retina.main(), retina.main()) == (143, 0)
    # Of each seed: one search, and one on the target's own rows; four more final trainings.
    counts = {step: steps.count(step) for step in ("source", "supernet", "adapt", "retrain", "evaluate")}
    assert counts == {"source": 2, "supernet": 4, "adapt": 4, "retrain": 12, "evaluate": 12}
    text = page.read_text()
    for arm in JOBS:
        assert f"\n| {arm} | " in text, arm
    assert text.count("**not shown**") + text.count("**yes**") + text.count("**no**") == 5
    steps.clear()
    assert retina.main() == 0

    assert (steps, page.read_text()) == ([], text)
