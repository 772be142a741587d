"""The context of a step: places of its files, log, times to save its state, and its cost so far."""

from __future__ import annotations

import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from imbnas.closure import step_digest
from imbnas.errors import UserError, is_utf8
from imbnas.files import (
    canonical_json,
    check_place,
    check_writable,
    controlled,
    digest_file,
    discard,
    remove_parts,
    taken,
    write_json,
)
from imbnas.progress import Log
from imbnas.run.graph import PATHS, STEPS, cost_details, maker
from imbnas.sealed import DamagedError, read_record, write_record

WORK = ".imbnas"
ELSEWHERE = "reused_supernet_seconds"
"""In a step's cost, and in results/cost.json: what a supernet took that another project has trained; not spent here."""
STALE_SECONDS = 3600.0
"""How long nothing was added to a file that nobody is writing any more."""
_LOCK_SECONDS = 60.0
"""How long another step may take to write its cost: one that hangs must not hold up this one."""


@dataclass
class Context:
    """Everything a step gets besides its view of the parameters; none of it may change the step's outputs."""

    step: str
    root: Path
    log: Log
    overrides: Mapping[str, Path] = field(default_factory=dict)
    state_interval: float = 300.0
    workers: int = 0
    memory: float = 2.0
    together: int | Literal["auto"] = "auto"
    clock: Callable[[], float] | None = None
    """The seconds of this attempt, where other contexts take theirs meanwhile; None: all since `started`."""
    started: float = field(default_factory=time.monotonic)
    device: str = "cpu"
    reused_seconds: float = 0.0
    """What the parts of the result took that an earlier run has left."""
    cost_notes: dict[str, str | float] = field(default_factory=dict)
    """What the details of the cost say of the step beside its seconds: what it owes to other steps, for instance."""
    _digest: str = ""
    _parts: dict[str, Any] = field(default_factory=dict)
    _earlier: dict[str, Any] = field(default_factory=lambda: {"seconds": 0.0, "attempts": 0})

    def path(self, name: str) -> Path:
        """Return where the file or directory called `name` in `graph.PATHS` lies."""
        return self.overrides.get(name, self.root / PATHS[name])

    def check_inputs(self) -> None:
        """Raise UserError naming the first missing input and the step that makes it."""
        for name in STEPS[self.step].inputs:
            _refuse_odd_bytes(self.path(name))
            if not self.path(name).exists():
                raise UserError(f"{self.path(name)}: not found, expected the output of `imbnas {maker(name)}`")

    def check_outputs(self) -> None:
        """Raise UserError naming the first output that could not be written: hours later is late to hear of it."""
        for name in STEPS[self.step].outputs:
            path = self.path(name)
            _refuse_odd_bytes(path)
            if Path(PATHS[name]).suffix:
                check_writable(path)
            else:
                check_place(path, path if path.exists() else path.parent)

    def sweep(self) -> None:
        """Remove what killed attempts have left half-written; under the step's lock, and `identify` comes first.

        DVC would version what lies in a directory that is an output.
        """
        for path in [*map(self.path, STEPS[self.step].outputs), self._cost_file]:
            remove_parts(path)
        for part in self._kept.glob(".*.part"):
            # Other jobs of a study, which no lock keeps out, may be writing there, but never this slowly.
            with suppress(FileNotFoundError):
                if time.time() - part.stat().st_mtime > STALE_SECONDS:
                    part.unlink()

    def identify(self, view_json: str, versions: Mapping[str, str]) -> str:
        """Fix and return the digest of all that determines the outputs: parameters, inputs, code and versions."""
        parts: dict[str, Any] = {
            "params": view_json,
            "code": step_digest(self.step),
            "versions": dict(versions),
        }
        for name in STEPS[self.step].inputs:
            path = self.path(name)
            parts[name] = digest_file(path / "info.json" if path.is_dir() else path)
        lock = self.root / "requirements.lock"
        parts["lock"] = digest_file(lock) if lock.exists() else ""
        self._parts = parts
        self.identify_as(_hash(parts))
        return self._digest

    def identify_as(self, digest: str) -> None:
        """Fix the digest of all that determines the outputs, for a caller that has worked it out by itself."""
        self._digest = digest
        if self._cost_file.exists():
            self._earlier = self._read_earlier()

    def kept_path(self, view_json: str, apart: Sequence[str] = ()) -> Path:
        """Return where a part of the result that depends on `view_json` alone, of all parameters, may be kept.

        Inputs, those `apart` excepted, code and versions count as they do for the step; `identify` comes first.
        """
        if not self._parts:
            raise RuntimeError("identify() comes before kept_path()")
        parts = {name: part for name, part in self._parts.items() if name not in apart}
        return self._kept / _hash({**parts, "params": view_json})

    @property
    def _kept(self) -> Path:
        return self.root / WORK / "kept" / self.step

    @property
    def identified(self) -> bool:
        """Say whether `identify` has run."""
        return bool(self._digest)

    @property
    def state_path(self) -> Path:
        """Return where this run's resumable state lies, without a suffix; `identify` comes first."""
        if not self._digest:
            raise RuntimeError("identify() comes before state_path")
        return self.root / WORK / "resume" / self.step / self._digest

    def cost(self) -> dict[str, Any]:
        """Return seconds and attempts of this run, earlier interrupted attempts included."""
        here = time.monotonic() - self.started if self.clock is None else self.clock()
        seconds = self._earlier["seconds"] + here
        return {"seconds": round(seconds, 3), "attempts": self._earlier["attempts"] + 1}

    def note_cost(self) -> None:
        """Record what was spent so far, so that a killed attempt is counted up to its last saved state."""
        write_record(self._cost_file, self.cost())

    def forget_cost(self) -> None:
        """Forget what the attempts of this run have cost: the caller keeps it with its result."""
        discard(self._cost_file)

    def _read_earlier(self) -> dict[str, Any]:
        try:
            found = read_record(self._cost_file)
            return {"seconds": _seconds(found["seconds"]), "attempts": int(found["attempts"])}
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            self.log(f"{self._cost_file}: begun anew, what earlier attempts have cost is lost ({error})")
            return {"seconds": 0.0, "attempts": 0}

    @property
    def _cost_file(self) -> Path:
        return self.root / WORK / "resume" / self.step / f"{self._digest}.cost.json"

    def publish_cost(self) -> None:
        """Add this cost to results/cost.json and the details beside it, no step's outputs, and forget the attempts.

        Not before a controller, who might repeat the step, has heard of its end: see `files.discard`. A full disk does
        not fail the step, whose outputs are whole and whose states are gone.
        """
        try:
            self._publish()
        except UserError as error:
            self.log(f"what this step has cost is not recorded ({error})")

    def _publish(self) -> None:
        path = cost_details(self.path("cost"))
        spent = self.cost()
        spent["seconds"] = round(spent["seconds"] + self.reused_seconds, 3)
        with _locked(self.root / WORK / "cost.lock"):
            for file in (path, self.path("cost")):
                remove_parts(file)
            steps = self._costs_before(path)
            steps[self.step] = {**spent, "device": self.device, "processor": processor_model(), **self.cost_notes}
            order = {name: k for k, name in enumerate(STEPS)}
            steps = dict(sorted(steps.items(), key=lambda item: order.get(item[0], len(order))))
            table = {"steps": steps, "total_seconds": round(sum(entry["seconds"] for entry in steps.values()), 3)}
            write_record(path, table)
            elsewhere = steps.get("supernet", {}).get(ELSEWHERE)
            apart = {} if elsewhere is None else {ELSEWHERE: elsewhere}
            write_json(self.path("cost"), {"seconds": table["total_seconds"], **apart})
        if controlled():
            self.note_cost()
        discard(self._cost_file)

    def _costs_before(self, path: Path) -> dict[str, Any]:
        """Return what earlier steps have cost. A damaged table must not fail a step whose work is done."""
        if not path.exists():
            return {}
        try:
            return _costs(read_record(path))
        except (UserError, OSError) as error:
            self.log(f"{path}: begun anew, what earlier steps have cost is lost ({error})")
            return {}


def _costs(table: Any) -> dict[str, Any]:
    """Return the steps of a table of costs, each with its seconds; UserError for anything else."""
    try:
        steps: dict[str, Any] = dict(table["steps"])
        for entry in steps.values():
            _seconds(entry["seconds"])
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError("no table of steps with their seconds") from None
    return steps


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not 0 <= float(value) < math.inf:
        raise ValueError(f"found {value!r}, expected seconds")
    return float(value)


def _refuse_odd_bytes(path: Path) -> None:
    # The libraries for networks and tables take no other names.
    if not is_utf8(path):
        raise UserError(f"{path}: the path is not valid UTF-8, expected one that is")


def _hash(parts: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:32]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        if not taken(stream, wait=_LOCK_SECONDS):
            raise UserError(
                f"{path}: held by another process for {_LOCK_SECONDS:.0f} s, expected it to be free by then"
            )
        yield


def processor_model() -> str:
    """Return the processor's model as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
