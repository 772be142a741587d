"""The GPUs that a process may use, with their memory, found without torch."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

VISIBLE = "CUDA_VISIBLE_DEVICES"
_QUERY = ("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance that MIG has cut from one."""

    name: str
    """By which CUDA_VISIBLE_DEVICES takes it."""
    key: str
    """By which the runs of a user know it: its UUID where that is certain."""
    mebibytes: int | None = None
    """Its memory, None where nvidia-smi does not tell it."""


@dataclass(frozen=True)
class _Listed:
    """A line of nvidia-smi."""

    index: str
    uuid: str
    mebibytes: int | None


def visible() -> list[Gpu]:
    """Return the GPUs that this process may use."""
    names = devices()
    listed = _parse_query(_nvidia_smi(*_QUERY)) if names else []
    return [_known(name, listed) for name in names]


def devices() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    What CUDA_VISIBLE_DEVICES says holds (numbers or UUIDs; as CUDA does, the list ends at the first -1 or empty entry).
    Without it, `nvidia-smi` lists UUIDs: its numbers follow the bus and need not be CUDA's.
    """
    if VISIBLE in os.environ:
        names: list[str] = []
        for name in os.environ[VISIBLE].split(","):
            if name.strip() in ("", "-1", "NoDevFiles", "none", "void"):
                break
            names.append(name.strip())
        return names
    return parse(_nvidia_smi("-L"))


def parse(listed: str) -> list[str]:
    """Return the UUIDs in the output of `nvidia-smi -L`; a GPU that is cut into MIG instances counts as those."""
    found: list[list[str]] = []
    for line in listed.splitlines():
        uuid = re.search(r"\(UUID: ((?:GPU|MIG)-[^)]+)\)", line)
        if uuid and line.startswith("GPU "):
            found.append([uuid[1]])
        elif uuid and found:
            found[-1].append(uuid[1])
    return [uuid for gpu in found for uuid in (gpu[1:] or gpu)]


def _nvidia_smi(*options: str) -> str:
    """Return what nvidia-smi says, nothing where there is none or it does not answer."""
    try:
        done = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _parse_query(text: str) -> list[_Listed]:
    """Return the GPUs in the output of a query; one that has no memory of its own says [N/A]."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[0].isdecimal() and parts[1].startswith("GPU-"):
            found.append(_Listed(parts[0], parts[1], int(parts[2]) if parts[2].isdecimal() else None))
    return found


def _known(name: str, listed: list[_Listed]) -> Gpu:
    """Return the GPU of a name in CUDA_VISIBLE_DEVICES.

    CUDA's numbers are nvidia-smi's where there is one GPU, or where CUDA_DEVICE_ORDER says so. Of other numbers the
    memory is that of the smallest GPU, which whichever it is has.
    """
    if not name.isdecimal():
        found = [one for one in listed if one.uuid.startswith(name)]
        return Gpu(name, found[0].uuid, found[0].mebibytes) if len(found) == 1 else Gpu(name, name)
    if len(listed) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        for one in listed:
            if one.index == name:
                return Gpu(name, one.uuid, one.mebibytes)
    memories = [one.mebibytes for one in listed]
    known = [memory for memory in memories if memory is not None]
    return Gpu(name, name, min(known) if known and len(known) == len(memories) else None)
