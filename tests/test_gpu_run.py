"""`make gpu`: lossless rows, the size of what travels, the budget, failing parts, and going on in a later run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain

from imbnas.data.materialise import write_split
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import read_split
from imbnas.errors import UserError
from imbnas.params.config import parse
from imbnas.run.graph import PATHS
from imbnas.run.runner import run_step
from imbnas.training.checkpoint import load_weights

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")


@pytest.mark.parametrize("channels", [1, 3])
def test_mosaics_are_lossless(channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_mosaics

    monkeypatch.setattr(gpu_mosaics, "SIDE", 40)
    images = np.random.default_rng(0).integers(0, 256, (23, 12, 8, channels), np.uint8)
    files = gpu_mosaics.write_mosaics(tmp_path, "a", images)
    assert len(files) == 2, "15 images in each"
    assert np.array_equal(gpu_mosaics.read_mosaics(tmp_path, "a", images.shape), images)


def test_a_mosaic_that_holds_other_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_mosaics

    monkeypatch.setitem(gpu_mosaics.SUFFIX, 3, ".jpg")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"a-000\.jpg: holds other pixels"):
        gpu_mosaics.write_mosaics(tmp_path, "a", images)


def written(folder: Path) -> dict[str, Path]:
    """Write splits of one dataset at two sizes, with rows in common, and return where they are."""
    rng = np.random.default_rng(1)
    halves = {
        half: Raw(np.arange(count) % 3, ["a", "b", "c"], rng.integers(0, 256, (count, 8, 8, 3), np.uint8), None, folder)
        for half, count in (("train", 60), ("test", 12))
    }
    rows = {"large": np.arange(0, 60, 3), "small": np.arange(0, 60, 2), "small-test": np.arange(12)}
    sides = {"large": 8, "small": 4, "small-test": 4}
    for name, chosen in rows.items():
        half = "test" if name == "small-test" else "train"
        shape = Shape(sides[name], sides[name], 3)
        options: dict[str, Any] = {"dataset": "cifar10", "split": half, "root": ".", "photographs": True}
        write_split(folder / name, halves[half], chosen, shape, **options)
    return {name: folder / name for name in rows}


def test_unpacked_splits_are_the_very_files_of_the_loader(tmp_path: Path) -> None:
    import gpu_rows

    splits = written(tmp_path / "made")
    told = gpu_rows.pack(tmp_path / "pack", splits)
    assert told["small"] == {"rows": 30, "digest": read_split(splits["small"]).info.digest}
    pools = json.loads((tmp_path / "pack/splits/pools.json").read_text())
    counts = {name: len(np.load(tmp_path / f"pack/splits/{name}.npy")) for name in pools}
    assert counts == {"train-8": 20, "train-4": 20, "test-4": 12}, "10 small ones come from large ones"
    again = {name: tmp_path / "again" / name for name in splits}
    gpu_rows.unpack(tmp_path / "pack", again)
    for name, place in splits.items():
        for file in ("images.npy", "index.parquet", "info.json"):
            assert (again[name] / file).read_bytes() == (place / file).read_bytes(), (name, file)


def test_a_pack_with_other_pixels_is_refused(tmp_path: Path) -> None:
    import gpu_mosaics
    import gpu_rows

    gpu_rows.pack(tmp_path / "pack", written(tmp_path / "made"))
    gpu_mosaics.write_mosaics(tmp_path / "pack/mosaics", "test-4", np.zeros((12, 4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"images\.npy: images or labels are not those whose digest"):
        gpu_rows.unpack(tmp_path / "pack", {"small-test": tmp_path / "again"})
    assert not (tmp_path / "again/info.json").exists()
    with pytest.raises(UserError, match="other: not found, expected rows of `make gpu-pack`"):
        gpu_rows.unpack(tmp_path / "pack", {"other": tmp_path / "other"})


def test_a_training_on_the_tail_alone_is_the_same_bit_for_bit(chain: Path, tmp_path: Path) -> None:
    import gpu_rows

    whole = gpu_rows.chain_places(chain)
    own = ("target_train", "longtail", "imbalance", *gpu_rows.CHAIN, *gpu_rows.DESCRIBED)
    places = {**whole, **{name: tmp_path / PATHS[name] for name in own}}
    (tmp_path / "pack/chain").mkdir(parents=True)
    for name in gpu_rows.CHAIN:
        shutil.copy(whole[name], tmp_path / "pack/chain" / whole[name].name)
    for name in gpu_rows.DESCRIBED:
        shutil.copy(whole[name] / gpu_rows.INFO, tmp_path / f"pack/chain/{name}.json")
    gpu_rows.copy_files(tmp_path / "pack", places)
    assert [file.name for file in places["source_train"].iterdir()] == [gpu_rows.INFO], "no images"
    gpu_rows.narrow(whole["target_train"], whole["longtail"], whole["imbalance"], places)
    assert len(read_split(places["target_train"])) < len(read_split(whole["target_train"])) / 2
    params = parse(tiny_chain.PARAMS, "params.yaml")
    assert run_step("retrain", params, tmp_path, places) == 0
    for file in ("final", "references"):
        first, second = (load_weights(root / f"models/{file}.safetensors")[0] for root in (chain, tmp_path))
        assert first.keys() == second.keys()
        assert all(first[name].equal(second[name]) for name in first), file


def test_what_is_too_large_is_refused_by_part(tmp_path: Path) -> None:
    import gpu_pack

    for name, size in {"mosaics": 3 * 2**20, "wheels": 2**20}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(bytes(size))
    found = gpu_pack.sizes(tmp_path)
    assert found["mosaics"] == 3 * 2**20
    assert found["tree"] > (ROOT / "requirements.lock").stat().st_size
    gpu_pack.check_sizes(found, sum(found.values()))
    with pytest.raises(UserError, match=r"found .* MiB \(tree .*, mosaics 3\.0, wheels 1\.0\), expected at most"):
        gpu_pack.check_sizes(found, sum(found.values()) - 1)


def test_wheels_are_what_imbnas_needs_beside_what_is_there_with_hashes() -> None:
    import gpu_pack

    names = gpu_pack.lacking()
    assert {"pydantic", "pydantic-core", "optuna"} <= set(names)
    assert not set(names) & {"torch", "numpy", "sympy", "imbnas", "snakemake", "sqlalchemy"}
    text = gpu_pack.locked(names)
    assert sum("==" in line for line in text.splitlines()) == len(names)
    assert text.count("--hash=sha256:") >= len(names)
    with pytest.raises(UserError, match="has no absent-package"):
        gpu_pack.locked(["absent-package"])


SCRIPTS = {
    "done": "print('all of it')",
    "failing": "print('begun'); raise RuntimeError('a plain fault')",
    "endless": "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.05)",
    "stubborn": "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun', flush=True)\n"
    "while True: time.sleep(0.05)",
    "pieces": "import sys, time\nfrom gpu_pieces import Pieces\nfrom gpu_setting import given\n"
    "pieces = Pieces(given(), 'pieces', 'x')\n"
    "left = [name for name in 'abc' if not pieces.done(name)]\n"
    "if left: pieces.make(left[0], lambda: len(left))\n"
    "print(len(pieces.records), 'of 3')\nsys.exit(143 if len(left) > 1 else 0)",
}


class Place:
    """A directory with parts that do as they are told, and runs of them."""

    def __init__(self, folder: Path) -> None:
        from gpu_setting import Setting

        self.folder = folder
        self.setting = Setting("cpu", folder / "pack", folder / "work")
        self.setting.results.mkdir(parents=True)

    def run(self, *names: str, seconds: float = 600.0, grace: float = 60.0) -> dict[str, Any]:
        """Run parts and return what came of each."""
        from gpu_parts import Part
        from gpu_run import Runner

        for name in names:
            (self.folder / f"{name}.py").write_text(
                f"import sys; sys.path.insert(0, {str(ROOT / 'experiments')!r})\n{SCRIPTS[name]}\n"
            )
        parts = [Part(name, str(self.folder / f"{name}.py"), 0.5) for name in names]
        outcomes = Runner(self.setting, parts, time.monotonic() + seconds, grace).run()
        self.outcomes = outcomes
        return {one.part: one for one in outcomes}


def test_a_failing_part_is_reported_and_the_next_one_runs(tmp_path: Path) -> None:
    import gpu_summary

    place = Place(tmp_path)
    found = place.run("failing", "done")
    assert (found["failing"].state, found["done"].state) == ("failed", "done")
    assert found["done"].lines == ["all of it"]
    assert found["failing"].lines[0] == "begun"
    assert found["failing"].lines[-2:] == ["RuntimeError: a plain fault", "ended with code 1"]
    facts = {"commit": "abc", "device": "cpu", "budget": 9.0, "seconds": 3.0, "torch": "2.11", "hardware": "H"}
    page = gpu_summary.write(place.setting, tmp_path, facts, place.outcomes)
    assert "H, torch 2.11" in page
    assert "commit abc" in page
    assert "| failing | failed |" in page
    assert "    RuntimeError: a plain fault" in page
    assert "begun" in (tmp_path / "log.txt").read_text()


def test_the_budget_stops_a_part_and_begins_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_run

    monkeypatch.setattr(gpu_run, "LEAST", 1.0)
    found = Place(tmp_path).run("endless", "done", seconds=1.5)
    assert found["endless"].state == "to be continued"
    assert found["done"].state == "to be continued"
    assert found["done"].lines == ["no time was left to begin it"]


def test_a_part_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_run

    monkeypatch.setattr(gpu_run, "LEAST", 1.0)
    assert Place(tmp_path).run("stubborn", seconds=1.5, grace=0.2)["stubborn"].state == "to be continued"


def test_asked_to_stop_from_outside_it_stops_the_part_and_begins_no_other(tmp_path: Path) -> None:
    from gpu_parts import Part
    from gpu_run import Runner

    place = Place(tmp_path)
    (tmp_path / "endless.py").write_text(SCRIPTS["endless"])
    parts = [Part(name, str(tmp_path / "endless.py"), 1.0) for name in ("first", "second")]
    runner = Runner(place.setting, parts, time.monotonic() + 600, 5.0)
    runner.stop(15, None)
    assert [one.state for one in runner.run()] == ["to be continued", "to be continued"]


def test_a_later_run_on_another_machine_goes_on(tmp_path: Path) -> None:
    import gpu_summary
    from gpu_setting import Setting

    place = Place(tmp_path / "one")
    # Each start makes one piece: the first turn of a run, and a second one with the time that is left.
    assert place.run("pieces")["pieces"].state == "to be continued"
    facts = {"commit": "abc", "device": "cpu", "budget": 9.0, "seconds": 3.0}
    (tmp_path / "out").mkdir()
    gpu_summary.write(place.setting, tmp_path / "out", facts, place.outcomes)
    assert {file.name for file in (tmp_path / "out").iterdir()} <= set(gpu_summary.FILES)
    other = Place(tmp_path / "other")
    gpu_summary.restore(tmp_path / "out", other.setting.work)
    found = other.run("pieces")["pieces"]
    assert (found.state, found.lines) == ("done", ["3 of 3"])
    gpu_summary.write(other.setting, tmp_path / "out", facts, other.outcomes)
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [len(results["runs"]), len(results["pieces"]["pieces"])] == [2, 3]
    assert results["pieces"]["pieces"]["a"]["value"] == 3, "made by the first machine"
    assert Setting("cpu", tmp_path, tmp_path / "other/work").machine() == {}


def test_at_most_eight_files_come_back_and_a_large_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_summary

    assert len(set(gpu_summary.FILES)) == len(gpu_summary.FILES) <= 8
    (tmp_path / "state.tar").write_bytes(bytes(2 * 2**20))
    monkeypatch.setattr(gpu_summary, "LARGEST", 2**20)
    assert gpu_summary.large(tmp_path) == ["state.tar: 2.0 MiB, expected at most 1"]


def test_kernels_that_overlap_are_counted_once_as_time_and_each_as_work() -> None:
    import gpu_beside

    assert gpu_beside.overlap([]) == {}
    found = gpu_beside.overlap([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (8.0, 10.0)])
    assert found == {"busy": 7 / 10, "kernels_at_once": 9 / 7}


def test_every_part_has_its_script_and_every_cuda_test_is_found() -> None:
    import gpu_parts
    import gpu_tests

    assert all((ROOT / "experiments" / part.script).is_file() for part in gpu_parts.PARTS)
    (together,) = gpu_tests.groups(True)
    names = {path.name for path in together}
    assert {
        "test_steps_cuda.py",
        "test_training_cuda_graphs.py",
        "test_data_augment.py",
        "test_data_images.py",
    } <= names
    for path in (ROOT / "tests").rglob("*.py"):
        if path != Path(__file__):
            assert "skipif(not torch.cuda" not in path.read_text(), path


def test_optuna_proposes_without_the_databases_that_stay_behind() -> None:
    import gpu_pack

    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {gpu_pack.DATABASES}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import optuna
import imbnas.search.optuna_methods
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
trial = study.ask()
study.tell(trial, float(trial.suggest_int("choice", 0, 3)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_rehearsal_that_begins_not_every_part_is_no_success(tmp_path: Path) -> None:
    from gpu_run import Outcome, exit_code
    from gpu_setting import Setting

    done, absent = Outcome("a", "done", 1.0, []), Outcome("b", "to be continued", 0.0, [])
    begun, failed = Outcome("b", "to be continued", 2.0, []), Outcome("b", "failed", 2.0, [])
    codes = {
        device: [exit_code(Setting(device, tmp_path, tmp_path), [done, other]) for other in (begun, absent, failed)]
        for device in ("cpu", "cuda")
    }
    assert codes == {"cpu": [0, 1, 1], "cuda": [0, 0, 1]}


def test_whole_steps_are_timed_with_the_preset_s_space_and_a_short_budget(tmp_path: Path) -> None:
    import gpu_pack
    import gpu_ratios
    import gpu_setting
    import peers

    from imbnas.params import presets

    setting = gpu_setting.Setting("cuda", tmp_path, tmp_path)
    wholes, plain = gpu_ratios.gpu_wholes, presets.params("cifar10-lt")
    params = wholes.chain(setting, "bf16")
    assert params.space == plain.space
    assert (params.runtime.device, params.runtime.precision, params.supernet.epochs) == ("cuda", "bf16", 0)
    assert params.search.population * params.search.generations == 100
    tail = wholes.ROWS["target"] / params.imbalance.ratio
    assert tail >= 20, "the rarest class has rows"
    names = [name for name, _ in wholes.measurements(setting, gpu_ratios.benchmark(setting), "tf32")]
    assert len(names) == len(set(names)) == 5
    assert gpu_pack.PEER.startswith(f"xautodl=={peers.VERSIONS['xautodl']} --hash=sha256:")
