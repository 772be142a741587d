"""The GPUs of a machine: which ones a process may use, under which name all runs know them, and their memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from imbnas.run import gpus
from imbnas.run.gpus import Gpu

LISTED = """\
GPU 0: NVIDIA A100 (UUID: GPU-5d5ba0d6)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8)
GPU 1: NVIDIA A100 (UUID: GPU-8a8b9c0d)
"""


def pretend(folder: Path, queried: str, listed: str = "") -> None:
    """Put an nvidia-smi into a folder."""
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\nif [ \"$1\" = -L ]; then echo '{listed}'; else echo '{queried}'; fi\n")
    script.chmod(0o755)


@pytest.mark.parametrize(
    ("visible", "names"),
    [("0,1", ["0", "1"]), (" GPU-a , 3", ["GPU-a", "3"]), ("", []), ("-1", []), ("0,-1,2", ["0"]), ("NoDevFiles", [])],
)
def test_the_list_of_devices_is_read_as_cuda_does(
    monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    monkeypatch.setenv(gpus.VISIBLE, visible)
    assert gpus.devices() == names


def test_without_a_list_nvidia_smi_names_the_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus.parse(LISTED) == ["MIG-c6d4f1ef", "MIG-cba663e8", "GPU-8a8b9c0d"]
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.devices() == []
    pretend(tmp_path, "0, GPU-77, 15360", "GPU 0: NVIDIA T4 (UUID: GPU-77)")
    assert gpus.visible() == [Gpu("GPU-77", "GPU-77", 15360)]


@pytest.mark.parametrize(
    ("visible", "order", "queried", "found"),
    [
        # One GPU has one number, a UUID may be shortened.
        ("0", None, "0, GPU-77, 15360", [Gpu("0", "GPU-77", 15360)]),
        ("GPU-8", None, "0, GPU-77, 15360\n1, GPU-88, 8192", [Gpu("GPU-8", "GPU-88", 8192)]),
        ("GPU-", None, "0, GPU-77, 15360\n1, GPU-88, 8192", [Gpu("GPU-", "GPU-")]),
        # Which of two is CUDA's first is not known, unless CUDA follows the bus.
        ("0", None, "0, GPU-77, 15360\n1, GPU-88, 8192", [Gpu("0", "0", 8192)]),
        ("0", "PCI_BUS_ID", "0, GPU-77, 15360\n1, GPU-88, 8192", [Gpu("0", "GPU-77", 15360)]),
        ("0", None, "0, GPU-77, 15360\n1, GPU-88, [N/A]", [Gpu("0", "0")]),
        ("MIG-c6", None, "0, GPU-77, 15360", [Gpu("MIG-c6", "MIG-c6")]),
        ("3", None, "no devices were found", [Gpu("3", "3")]),
        ("GPU-77", None, "0, GPU-77, [N/A]", [Gpu("GPU-77", "GPU-77")]),
    ],
)
def test_a_device_is_known_by_its_uuid_where_that_is_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, order: str | None, queried: str, found: list[Gpu]
) -> None:
    pretend(tmp_path, queried)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, visible)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if order:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    assert gpus.visible() == found
