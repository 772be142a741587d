"""Runs one step: checks its inputs, hands it its view of the parameters, turns signals and errors into exit codes."""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

from imbnas.closure import step_digest
from imbnas.errors import Interrupted, UserError
from imbnas.params.base import View
from imbnas.params.config import Params
from imbnas.progress import Log
from imbnas.steps import lease, lock
from imbnas.steps.context import Context
from imbnas.steps.graph import STEPS

EXIT_USER = 2
EXIT_STOPPED = 128 + signal.SIGTERM


def run_step(
    step: str,
    params: Params,
    root: Path,
    overrides: Mapping[str, Path] | None = None,
    log_file: Path | None = None,
    code: str | None = None,
) -> int:
    """Run `step` in the project directory `root` and return the process's exit code.

    0: done; 2: bad input, told in one line; 143: stopped by a signal with its state saved. Any other exception leaves
    its traceback in the log and is raised again. `overrides` moves single files or directories of `graph.PATHS`; `code`
    is the digest of the step's code that the caller expects to run.
    """
    log = Log(step, log_file)
    context = Context(
        step,
        root,
        log,
        dict(overrides or {}),
        state_interval=params.runtime.state_interval,
        workers=params.runtime.workers,
        memory=params.runtime.memory,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _check_code(step, code)
        outputs = [context.path(name) for name in STEPS[step].outputs]
        with lock.sole(lock.lock_path(root, step, outputs), log):
            _run(step, params.view(step), context)
    except UserError as error:
        log.to_file(f"error: {error}")
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except (Interrupted, KeyboardInterrupt) as stop:
        if context.identified:
            context.note_cost()
        log(f"stopped: {stop or 'asked to stop'}")
        return EXIT_STOPPED
    except BaseException:
        log.to_file(traceback.format_exc())
        raise
    return 0


def _run(step: str, view: View, context: Context) -> None:
    """Run the step on a device of its own, unless it only uses the processor."""
    context.check_inputs()
    context.identify(view.model_dump_json(by_alias=True), _versions())
    numerics = getattr(view, "runtime", None)
    with nullcontext() if numerics is None or numerics.device == "cpu" else lease.leased(context.log) as gpu:
        if gpu:
            context.log.to_file(f"on GPU {gpu}")
        importlib.import_module(f"imbnas.steps.{step}").run(view, context)
    context.publish_cost()


def _check_code(step: str, expected: str | None) -> None:
    """Refuse to run other code than the caller planned with: a job may start hours after its controller."""
    found = step_digest(step)
    if expected is not None and not found.startswith(expected):
        raise UserError(
            f"code of the step {step}: found {found[: len(expected)]}, expected {expected}; "
            "it was edited after the run began, start the run again"
        )


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise in the main thread; a training loop installs a gentler handler while it holds state worth saving."""
    raise Interrupted("asked to stop; nothing was half-written, run the same command again")


def _versions() -> dict[str, str]:
    """Return the versions that decide bits, without importing torch."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "numpy")}
