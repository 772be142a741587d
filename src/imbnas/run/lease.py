"""GPUs for each step on a machine with several, leased by file locks that the kernel releases when a process exits."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imbnas.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.5


@contextmanager
def leased(tell: Callable[[str], None], count: int = 1) -> Iterator[str | None]:
    """Lease `count` GPUs and let torch, which must not be imported yet, see no other; yield their names, None without.

    Where too few are free, wait for them without keeping any (`tell` is called once). Slurm's jobs have been given
    their devices, which are then the only ones to choose from: leases within one job know nothing of those of others.
    Raise UserError where there are not so many.
    """
    names = devices()
    if not names:
        yield None
        return
    if len(names) < count:
        raise UserError(
            f"runtime.processes: found {count} where there are {len(names)} GPUs, expected at most that many"
        )
    folder = Path(tempfile.gettempdir()) / f"imbnas-gpus-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'local')}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    while not (leases := _free(folder, names, count)):
        if not told:
            state = "all GPUs are leased" if count == 1 else "too many GPUs are leased"
            tell(f"{state} ({', '.join(names)}): waiting for {'one' if count == 1 else count}")
        told = True
        time.sleep(POLL_SECONDS)
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(name for _, name in leases)
    try:
        yield os.environ[VISIBLE]
    finally:
        for stream, _ in leases:
            os.close(stream)
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before


def devices() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without torch.

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
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse(listed)


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


def _free(folder: Path, names: list[str], count: int) -> list[tuple[int, str]]:
    """Return `count` locked file descriptors with the devices' names, none where fewer are free."""
    leases: list[tuple[int, str]] = []
    for name in names:
        stream = os.open(folder / f"{re.sub('[^A-Za-z0-9-]', '_', name)}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(stream)
            continue
        leases.append((stream, name))
        if len(leases) == count:
            return leases
    # Two steps that keep what they have and wait for the rest would wait for ever.
    for stream, _ in leases:
        os.close(stream)
    return []
