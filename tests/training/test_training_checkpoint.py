"""Networks on disk: equal content is equal bytes, and what is no network of ours is refused by name."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from imbnas.errors import UserError
from imbnas.training.checkpoint import load_meta, load_weights, save_weights

META = {"kind": "subnet", "classes": ["a", "b"], "mean": [0.1, 0.2], "architecture": [1, 2, 3]}


def test_round_trip_keeps_bits_and_metadata(tmp_path: Path) -> None:
    tensors = {"w": torch.randn(3, 4, 3, 3).to(memory_format=torch.channels_last), "n": torch.tensor(5)}
    save_weights(tmp_path / "net.safetensors", tensors, META)
    loaded, meta = load_weights(tmp_path / "net.safetensors", "subnet")
    assert meta == {"format": 1, **META}
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    a, b = torch.ones(2), torch.zeros(3)
    save_weights(tmp_path / "1", {"a": a, "b": b}, META)
    save_weights(tmp_path / "2", {"b": b, "a": a}, dict(reversed(META.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_weights_are_aligned_wherever_the_metadata_end(tmp_path: Path) -> None:
    """Convolutions give other last bits for other alignments: a longer class name would change predictions."""
    for letters in range(1, 64, 7):
        save_weights(
            tmp_path / "net", {"b": torch.ones(3), "w": torch.ones(5, 2)}, {**META, "classes": ["a" * letters]}
        )
        loaded, _ = load_weights(tmp_path / "net", "subnet")
        assert {tensor.data_ptr() % 64 for tensor in loaded.values()} == {0}


def test_missing_foreign_truncated_and_pickled_files_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    save_weights(whole, {"w": torch.ones(100)}, META)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[:-7])
    foreign = tmp_path / "foreign"
    save_file({"w": torch.ones(2)}, str(foreign))
    pickled = tmp_path / "pickled"
    pickled.write_bytes(pickle.dumps({"w": 1}))
    for path, text in (
        (tmp_path / "absent", "not found"),
        (cut, "not a whole safetensors file"),
        (foreign, "without imbnas metadata"),
        (pickled, "not a whole safetensors file"),
    ):
        with pytest.raises(UserError, match=f"{path.name}: .*{text}") as caught:
            load_weights(path)
        assert "\n" not in str(caught.value)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "net", {"w": torch.ones(1)}, META)
    with pytest.raises(UserError, match="holds a subnet, expected a supernet"):
        load_meta(tmp_path / "net", "supernet")
