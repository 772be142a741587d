"""What holds for the chain as a whole: killed anywhere it ends in the same bytes, it is blind to the test split, and
source and target share no image."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_chain

from imbnas.data.stored import array_digest, read_labels, read_split

TRAININGS = ("supernet", "adapt", "search", "retrain")


def run_in_child(root: Path, step: str, kill_after: float | None) -> tuple[bool, float]:
    """Run a step in a forked child, killed with SIGKILL after some seconds; say whether it ended, and its seconds."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = tiny_chain.run(root, step, runtime__state_interval=0.02)
        finally:
            os._exit(code)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, f"{step} ended with status {status}"
            return True, time.monotonic() - started
        if kill_after is not None and time.monotonic() - started >= kill_after:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False, time.monotonic() - started
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("step", TRAININGS)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(chain: Path, tmp_path: Path, step: str) -> None:
    expected = tiny_chain.digests(chain, step)
    whole = tiny_chain.copy(chain, tmp_path / "whole")
    _, seconds = run_in_child(whole, step, None)
    assert tiny_chain.digests(whole, step) == expected
    root = tiny_chain.copy(chain, tmp_path / "killed")
    for name in expected:
        (root / name).unlink()
    moments = random.Random(step)
    kills = 0
    for _ in range(40):
        # Moments are spread over what an undisturbed run takes, so that they hit start, middle and writing alike.
        ended, _ = run_in_child(root, step, moments.uniform(0.02, 0.8) * seconds if kills < 4 else None)
        assert not [file for name in expected for file in (root / name).parent.glob("*") if file.name == name]
        kills += not ended
        if ended and kills >= 4:
            break
        if ended:
            for name in expected:
                (root / name).unlink()
    assert kills >= 4
    assert tiny_chain.digests(root, step) == expected
    left = [file for file in (root / ".imbnas/resume" / step).rglob("*") if file.suffix in {".pt", ".jsonl"}]
    assert left == []


def test_no_step_but_evaluate_opens_the_test_split(chain: Path, tmp_path: Path) -> None:
    blind = ("imbalance", *TRAININGS)
    root = tmp_path / "blind"
    for name in ("data", "datasets"):
        if (chain / name).exists():
            shutil.copytree(chain / name, root / name)
    (root / "data/longtail.parquet").unlink()
    shutil.rmtree(root / "data/target/test")
    assert tiny_chain.run(root, *blind) == 0
    assert tiny_chain.digests(root, *blind) == tiny_chain.digests(chain, *blind)


def test_evaluate_sees_the_test_split(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "evaluate") == 0
    before = tiny_chain.digests(root, "evaluate")
    assert tiny_chain.run(root, "evaluate") == 0
    assert tiny_chain.digests(root, "evaluate") == before
    file = root / "data/target/test/images.npy"
    images = np.random.default_rng(0).integers(0, 256, np.load(file).shape, dtype=np.uint8)
    np.save(file, images)
    assert tiny_chain.run(root, "evaluate") == 2
    info = json.loads((root / "data/target/test/info.json").read_text())
    labels, _ = read_labels(root / "data/target/test")
    info["digest"] = array_digest(labels, images).hexdigest()
    (root / "data/target/test/info.json").write_text(json.dumps(info))
    assert tiny_chain.run(root, "evaluate") == 0
    after = tiny_chain.digests(root, "evaluate")
    assert after["results/metrics.json"] != before["results/metrics.json"]
    assert after["results/figures/search.png"] == before["results/figures/search.png"]


def test_no_image_is_in_two_splits(chain: Path) -> None:
    contents: dict[str, set[bytes]] = {}
    for place in ("source/train", "source/validation", "target/train", "target/validation", "target/test"):
        images = read_split(chain / "data" / place).images
        assert images is not None
        contents[place] = {image.tobytes() for image in images}
    names = list(contents)
    shared = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :] if contents[a] & contents[b]]
    assert shared == []
    assert sum(map(len, contents.values())) == 1797


def test_outputs_hold_no_trace_of_where_or_when(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path / "another place")
    steps = ("source", "target", "imbalance", "supernet", "adapt", "search", "retrain")
    for step in steps:
        for name in tiny_chain.digests(chain, step):
            (root / name).unlink()
    assert tiny_chain.run(root, *steps) == 0
    assert tiny_chain.digests(root, *steps) == tiny_chain.digests(chain, *steps)
    assert tiny_chain.run(root, "evaluate") == 0
    marks = [str(place).encode() for place in (root, chain, Path.home())]
    for name in tiny_chain.digests(root):
        assert not any(mark in (root / name).read_bytes() for mark in marks), name


@pytest.mark.parametrize("damaged", ["[]", "{", '{"steps": {"adapt": 3}}', '{"steps": {"adapt": {"seconds": "3"}}}'])
def test_a_damaged_table_of_costs_fails_no_step(chain: Path, tmp_path: Path, damaged: str) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    (root / "results/cost-details.json").write_text(damaged)
    assert tiny_chain.run(root, "imbalance") == 0
    assert list(json.loads((root / "results/cost-details.json").read_text())["steps"]) == ["imbalance"]
    assert "cost-details.json: begun anew" in (root / "logs/imbalance.log").read_text()


def test_cost_is_kept_apart_and_adds_up_over_attempts(chain: Path, tmp_path: Path) -> None:
    table = json.loads((chain / "results/cost-details.json").read_text())
    assert list(table["steps"]) == ["source", "target", "imbalance", *TRAININGS]
    assert table["total_seconds"] == pytest.approx(sum(entry["seconds"] for entry in table["steps"].values()), abs=0.01)
    # One number, so that DVC's table of experiments stays narrow.
    assert json.loads((chain / "results/cost.json").read_text()) == {"seconds": table["total_seconds"]}
    root = tiny_chain.copy(chain, tmp_path)
    ended, _ = run_in_child(root, "supernet", 1.0)
    assert not ended
    run_in_child(root, "supernet", None)
    entry = json.loads((root / "results/cost-details.json").read_text())["steps"]["supernet"]
    assert entry["attempts"] == 2
