"""Fixtures that several test directories use."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from once import made_once

# Read when torch is imported. Each of xdist's workers would start a thread per core, and those spin while they wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Each process that a test starts, and each of xdist's workers, would compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = Path(os.environ.get("IMBNAS_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("cuda") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("marker cuda: torch sees no GPU here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with long tests come first: one that begins last leaves all workers but its own without work."""
    long = {item.path for item in items if item.get_closest_marker("workflow") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Have the collector of garbage pass over modules and tests: they stay to the end, and are a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Take back the threads that a step gave to torch in this process: the next test would wait for them."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with CIFAR-10 and MNIST as torchvision reads them, or skip with the reason."""
    ready = os.environ.get("IMBNAS_TEST_TORCHVISION_ROOT")
    if ready:
        return Path(ready)
    unpack = SHARED_DATA / "unpack"
    if not unpack.exists():
        pytest.skip(f"real CIFAR-10 and MNIST are absent: {unpack} not found (set IMBNAS_TEST_DATA)")

    def make(root: Path) -> None:
        subprocess.run([sys.executable, str(unpack), str(root)], check=True, stdout=subprocess.DEVNULL)

    return made_once(tmp_path_factory, "real-data", make)


@pytest.fixture(scope="session")
def retina() -> Path:
    """Return RetinaMNIST's official file, or skip with the reason."""
    file = SHARED_DATA / "retinamnist.npz"
    if not file.exists():
        pytest.skip(f"RetinaMNIST is absent: {file} not found (set IMBNAS_TEST_DATA)")
    return file


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return a directory with features of two published long-tailed networks, or skip with the reason."""
    folder = SHARED_DATA / "golden"
    if not (folder / "cifar10-lt-100.npz").exists():
        pytest.skip(f"features of published networks are absent: {folder} not found (set IMBNAS_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def published_accuracies() -> Path:
    """Return NAS-Bench-201's published accuracies as a table, or skip with the reason."""
    table = SHARED_DATA / "nas-bench-201" / "test-accuracy-200-epochs.csv.gz"
    if not table.exists():
        pytest.skip(f"NAS-Bench-201's accuracies are absent: {table} not found (set IMBNAS_TEST_DATA)")
    return table


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which a tiny chain has run up to `retrain`; copy it before changing anything."""
    import tiny_chain

    def make(root: Path) -> None:
        assert tiny_chain.run(root, "source", "target", "imbalance", "supernet", "adapt", "search", "retrain") == 0

    return made_once(tmp_path_factory, "chain", make)


@pytest.fixture(scope="session")
def quantised(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tiny chain's project, its network measured and exported in 8 bits; see `tiny_int8`."""
    import tiny_int8

    return made_once(tmp_path_factory, "quantised", lambda root: tiny_int8.make(chain, root))


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project of `tiny_chain.CELLS` that has run up to `adapt`; copy it before changing anything."""
    import tiny_chain

    def make(root: Path) -> None:
        assert tiny_chain.run(root, "source", "target", "imbalance", "supernet", "adapt", **tiny_chain.CELLS) == 0

    return made_once(tmp_path_factory, "cells", make)


OVERRIDES = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root read and write files in spite of their permissions."""


@contextmanager
def _without_overrides() -> Iterator[None]:
    """Take them from this thread, if it is root's, for as long as the context lasts."""
    if sys.platform != "linux" or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    effective = sets[0]
    sets[0] = effective & ~OVERRIDES
    libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = effective
        libc.capset(header, sets)


@pytest.fixture
def permissions_count(tmp_path: Path) -> Iterator[None]:
    """Let the permissions of files count for this test although root runs it; skip it where they do not."""
    with _without_overrides():
        probe = tmp_path / "probe"
        probe.touch(0)
        if os.access(probe, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            pytest.skip("permissions do not count for this user")
        probe.unlink()
        yield
