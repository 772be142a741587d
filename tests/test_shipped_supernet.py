"""The supernet that ships: what its card says of it, and the presets that take it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imbnas.data.supernet_file import reused_meta
from imbnas.data.supernet_fit import check_reused
from imbnas.files import digest_file
from imbnas.params import presets

ROOT = Path(__file__).parents[1]
FILE = ROOT / "supernets" / "cifar100-64.safetensors"
USERS = [name for name in presets.names() if presets.params(name).supernet.reuse == f"supernets/{FILE.name}"]


def test_the_card_names_the_file_s_digest_and_its_accuracy() -> None:
    card = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    section = card[card.index("## The supernet that ships") :].split("\n## ")[0]
    assert digest_file(FILE) in section
    assert f"{100 * reused_meta(FILE)['probe_balanced_accuracy']:.1f} %" in section
    assert FILE.stat().st_size < 5e6


def test_it_was_trained_by_its_preset() -> None:
    meta, params = reused_meta(FILE), presets.params("supernet-64")
    assert meta["recipe"] == params.supernet.described
    assert meta["space"] == params.space.described
    assert meta["seed"] == params.seed
    assert meta["shape"] == list(params.target.shape)
    assert len(meta["classes"]) == 100


def test_presets_for_own_images_take_it() -> None:
    assert USERS == ["medmnist", "own-64"]
    for name in USERS:
        params = presets.params(name)
        assert check_reused(params.supernet, params.space, params.target, ROOT) == digest_file(FILE)


def test_git_keeps_it() -> None:
    tracked = subprocess.run(["git", "ls-files", "supernets"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    if tracked:
        assert {f"supernets/{FILE.name}", "supernets/cifar100-64.cost.json"} < {*tracked}


@pytest.mark.parametrize("name", USERS)
def test_init_brings_it_and_leaves_another_of_its_name_alone(name: str, tmp_path: Path) -> None:
    done = presets.initialise(name, tmp_path, force=False)
    assert done.supernet == f"supernets/{FILE.name}"
    brought = tmp_path / "supernets" / FILE.name
    assert brought.read_bytes() == FILE.read_bytes()
    assert brought.with_suffix(".cost.json").is_file()
    brought.write_bytes(b"another")
    presets.initialise(name, tmp_path, force=False)
    assert brought.read_bytes() == b"another"


def test_a_supernet_that_does_not_ship_is_the_user_s_to_bring(tmp_path: Path) -> None:
    done = presets.initialise("ofa-224", tmp_path, force=False)
    assert done.supernet is not None
    assert not (tmp_path / "supernets").exists()
