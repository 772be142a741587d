"""One GPU for each step on a machine with several: a device is leased by a file lock that the kernel frees at death."""

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

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.5


@contextmanager
def leased(tell: Callable[[str], None]) -> Iterator[str | None]:
    """Lease one of the GPUs and let torch, which must not be imported yet, see no other; yield its name, None without.

    Where all are leased, wait for one (`tell` is called once). Slurm's jobs have been given their devices, which are
    then the only ones to choose from: leases within one job know nothing of those of others.
    """
    names = devices()
    if not names:
        yield None
        return
    folder = Path(tempfile.gettempdir()) / f"imbnas-gpus-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'local')}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    while (lease := _free(folder, names)) is None:
        if not told:
            tell(f"all GPUs are leased ({', '.join(names)}): waiting for one")
        told = True
        time.sleep(POLL_SECONDS)
    stream, name = lease
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = name
    try:
        yield name
    finally:
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


def _free(folder: Path, names: list[str]) -> tuple[int, str] | None:
    """Return a locked file descriptor and the device's name, None where all are taken."""
    for name in names:
        stream = os.open(folder / f"{re.sub('[^A-Za-z0-9-]', '_', name)}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return stream, name
        except BlockingIOError:
            os.close(stream)
    return None
