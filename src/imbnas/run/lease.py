"""GPUs for each step on a machine, whole or a share of one, leased by locks that the kernel frees with the process.

A GPU that is leased whole has an exclusive lock on its file, one that is shared a common lock of each step that has a
share. How much memory these take together is written in a file for each share, which its step has locked: a file
without a lock is that of a step that was killed.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imbnas.errors import UserError
from imbnas.run.gpus import VISIBLE, Gpu, visible
from imbnas.training import GPU_CONTEXT, GPU_MEMORY

POLL_SECONDS = 0.5
LEAST = GPU_CONTEXT + 384
"""Mebibytes of a share: less leaves nothing worth mentioning beside CUDA's own."""


@dataclass(frozen=True)
class _Lease:
    """A GPU that this process has, or a share of it."""

    gpu: Gpu
    streams: tuple[int, ...]
    mebibytes: int | None = None
    """Those of a share."""
    file: Path | None = None

    def end(self) -> None:
        if self.file is not None:
            self.file.unlink(missing_ok=True)
        for stream in self.streams:
            # A process that this one has started may have a copy of the stream, which would keep the lock.
            fcntl.flock(stream, fcntl.LOCK_UN)
            os.close(stream)

    def __str__(self) -> str:
        return self.gpu.name if self.file is None else f"{self.gpu.name} ({_of(self.mebibytes, self.gpu)})"


@contextmanager
def leased(
    tell: Callable[[str], None],
    count: int = 1,
    share: float = 1.0,
    check: Callable[[int, str], None] = lambda mebibytes, whose: None,
) -> Iterator[str | None]:
    """Lease `count` GPUs, or a share of one, and let torch see no other; yield their names, None without GPUs.

    CUDA must not have been used yet. `check` raises UserError where a step cannot do with so many mebibytes; GPUs
    where it does are passed over. Where too few are free, wait for them without keeping any (`tell` is called once).
    Slurm's jobs have been given their devices, which are then the only ones to choose from: leases within one job know
    nothing of those of others. Raise UserError where there are not so many, and where a share proves too small.
    """
    gpus = visible()
    if not gpus:
        yield None
        return
    if len(gpus) < count:
        raise UserError(
            f"runtime.processes: found {count} where there are {len(gpus)} GPUs, expected at most that many"
        )
    gpus = _fitting(gpus, count, share, check)
    folder = Path(tempfile.gettempdir()) / f"imbnas-gpus-{os.getuid()}-{os.environ.get('SLURM_JOB_ID', 'local')}"
    folder.mkdir(mode=0o700, exist_ok=True)
    told = False
    while not (leases := _whole(folder, gpus, count) if share == 1.0 else _shared(folder, gpus, share)):
        if not told:
            tell(_waiting(gpus, count, share))
        told = True
        time.sleep(POLL_SECONDS)
    wanted = {VISIBLE: ",".join(lease.gpu.name for lease in leases)}
    if leases[0].mebibytes is not None:
        wanted[GPU_MEMORY] = str(leases[0].mebibytes)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield ",".join(map(str, leases))
    except RuntimeError as error:
        # By its name: torch need not be there.
        if share == 1.0 or type(error).__name__ != "OutOfMemoryError":
            raise
        raise UserError(
            f"runtime.gpu_share: found {share:g}, with which memory ran out on GPU {leases[0]}, expected more; the "
            "same command goes on from the last saved state",
            str(error).splitlines(),
        ) from None
    finally:
        for lease in leases:
            lease.end()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _fitting(gpus: list[Gpu], count: int, share: float, check: Callable[[int, str], None]) -> list[Gpu]:
    """Return the GPUs on which the step has the memory that it needs; UserError where they are not enough."""
    fitting, errors = [], []
    for gpu in sorted(gpus, key=lambda gpu: -(gpu.mebibytes or 0)):
        try:
            _check_share(gpu, share)
            if gpu.mebibytes is not None:
                whose = f"the memory of GPU {gpu.name}"
                if share < 1.0:
                    whose = f"the share runtime.gpu_share {share:g} of GPU {gpu.name}"
                check(_granted(gpu, share), whose)
            fitting.append(gpu)
        except UserError as error:
            errors.append(error)
    if len(fitting) < count:
        raise errors[0]
    return [gpu for gpu in gpus if gpu in fitting]


def _check_share(gpu: Gpu, share: float) -> None:
    """Raise UserError for a share that cannot be counted, or is less than any step needs."""
    if share == 1.0:
        return
    if gpu.mebibytes is None:
        why = "which is a share of a GPU already" if gpu.name.startswith("MIG-") else "of unknown memory to nvidia-smi"
        raise UserError(f"runtime.gpu_share: found {share:g} with GPU {gpu.name}, {why}, expected 1")
    if _granted(gpu, share) < LEAST:
        raise UserError(
            f"runtime.gpu_share: found {share:g}, {_of(_granted(gpu, share), gpu)} of GPU {gpu.name}, expected at "
            f"least {LEAST:,} MiB: CUDA itself takes about {GPU_CONTEXT}"
        )


def _granted(gpu: Gpu, share: float) -> int:
    assert gpu.mebibytes is not None
    return int(gpu.mebibytes * share)


def _of(mebibytes: int | None, gpu: Gpu) -> str:
    return f"{mebibytes:,} of {gpu.mebibytes:,} MiB"


def _waiting(gpus: Sequence[Gpu], count: int, share: float) -> str:
    """Return what is waited for."""
    names = ", ".join(gpu.name for gpu in gpus)
    if share < 1.0:
        return f"no GPU has a share of {share:g} free ({names}): waiting for one"
    state = "all GPUs are leased" if count == 1 else "too many GPUs are leased"
    return f"{state} ({names}): waiting for {'one' if count == 1 else count}"


def _whole(folder: Path, gpus: Sequence[Gpu], count: int) -> list[_Lease]:
    """Return the leases of `count` GPUs, none where fewer are free."""
    leases: list[_Lease] = []
    for gpu in gpus:
        stream = _locked(folder / f"{_file_name(gpu)}.lock", fcntl.LOCK_EX)
        if stream is None:
            continue
        leases.append(_Lease(gpu, (stream,)))
        if len(leases) == count:
            return leases
    # Two steps that keep what they have and wait for the rest would wait for ever.
    for lease in leases:
        lease.end()
    return []


def _shared(folder: Path, gpus: Sequence[Gpu], share: float) -> list[_Lease]:
    """Return the lease of a share of the GPU that has most of its memory left, none where no share is free."""
    # One at a time: two that count the same memory as free would both take it.
    turn = os.open(folder / "turn", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        taken = {gpu: _taken(folder, gpu) for gpu in gpus}
        for gpu in sorted(gpus, key=lambda gpu: taken[gpu] - (gpu.mebibytes or 0)):
            wanted = _granted(gpu, share)
            if taken[gpu] + wanted > (gpu.mebibytes or 0):
                continue
            stream = _locked(folder / f"{_file_name(gpu)}.lock", fcntl.LOCK_SH)
            if stream is None:
                continue
            number, file = tempfile.mkstemp(prefix=f"{_file_name(gpu)}.", suffix=".share", dir=folder)
            fcntl.flock(number, fcntl.LOCK_EX)
            os.write(number, str(wanted).encode())
            return [_Lease(gpu, (stream, number), wanted, Path(file))]
    finally:
        os.close(turn)
    return []


def _taken(folder: Path, gpu: Gpu) -> int:
    """Return the mebibytes of the shares that running steps have of a GPU; forget those of steps that are dead."""
    total = 0
    for file in folder.glob(f"{_file_name(gpu)}.*.share"):
        with suppress(FileNotFoundError), file.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                total += int(stream.read() or 0)
            else:
                file.unlink(missing_ok=True)
    return total


def _locked(file: Path, kind: int) -> int | None:
    """Return the file, locked, None where another process has it."""
    stream = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(stream)
        return None
    return stream


def _file_name(gpu: Gpu) -> str:
    return re.sub("[^A-Za-z0-9-]", "_", gpu.key)
