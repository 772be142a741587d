"""Runs one step: checks its inputs, hands it its view of the parameters, turns signals and errors into exit codes."""

from __future__ import annotations

import gc
import importlib
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType

from imbnas.closure import step_digest
from imbnas.errors import Interrupted, PeerLost, UserError, naming_files
from imbnas.params.config import Params
from imbnas.params.section import View
from imbnas.progress import Log
from imbnas.run import launch, lease, lock, machine
from imbnas.run.context import Context
from imbnas.run.graph import STEPS
from imbnas.run.launch import EXIT_PEER, EXIT_STOPPED, EXIT_USER
from imbnas.run.output_record import OutputRecord


def run_step(
    step: str,
    params: Params,
    root: Path,
    overrides: Mapping[str, Path] | None = None,
    log_file: Path | None = None,
    code: str | None = None,
    record: OutputRecord | None = None,
) -> int:
    """Run `step` in the project directory `root` and return the process's exit code.

    0: done; 2: bad input, or a file that cannot be used, told in one line; 143: stopped by a signal with its state
    saved. Any other exception leaves its traceback in the log and is raised again. `overrides` moves single files or
    directories of `graph.PATHS`; `code` is the digest of the step's code that the caller expects to run. `record` is
    written after the outputs, by one process, before another may run the step.

    A step whose `runtime.processes` is more than one is run by so many: this one starts them, unless torchrun or an
    earlier call has, and then it is one of them.
    """
    view = params.view(step)
    processes = 1 if _takes_over(view) else getattr(getattr(view, "runtime", None), "processes", 1)
    rank = launch.rank() if processes > 1 else 0
    try:
        with naming_files():
            log = Log(step, log_file, silent=bool(rank))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    context = Context(
        step,
        root,
        log,
        dict(overrides or {}),
        state_interval=params.runtime.state_interval,
        workers=params.runtime.workers,
        memory=params.runtime.memory,
        together=params.runtime.together,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with naming_files():
            return _attempt(params, view, context, processes, rank, log_file, code, record)
    except UserError as error:
        log.to_file(f"error: {error}")
        for line in error.details:
            log.to_file(line)
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except (Interrupted, KeyboardInterrupt) as stop:
        if context.identified and not rank:
            with suppress(UserError, OSError):
                context.note_cost()
        log(f"stopped: {stop or 'asked to stop'}")
        return EXIT_STOPPED
    except PeerLost:
        log.to_file("error: another process of this training has ended, without which this one cannot go on")
        return EXIT_PEER
    except BaseException:
        log.to_file(traceback.format_exc())
        raise


def _attempt(
    params: Params,
    view: View,
    context: Context,
    processes: int,
    rank: int | None,
    log_file: Path | None,
    code: str | None,
    record: OutputRecord | None,
) -> int:
    """Run the step alone, or start its processes, or be one of them, and return the exit code."""
    step = context.step
    _check_code(step, code)
    machine.check_memory(step, params)
    _check_multiplier(params, context.root)
    _check_reused(view, params, context.root)
    _check_int8(params)
    if processes > 1 and launch.launched():
        launch.follow_launcher()
        _run(params, view, context, processes, rank, record)
        return 0
    outputs = [context.path(name) for name in STEPS[step].outputs]
    with nullcontext() if rank else lock.sole(lock.lock_path(context.root, step, outputs), context.log):
        if rank is None:
            ended = _launch(step, params, context, processes, log_file, code)
            if record and not ended:
                record.write(context.root)
            return ended
        _run(params, view, context, processes, rank, record)
    return 0


def _imported(name: str) -> ModuleType:
    """Import a step without collecting garbage: the collector would look through a million lasting objects many times.

    It passes over them afterwards too.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _run(
    params: Params, view: View, context: Context, processes: int, rank: int | None, record: OutputRecord | None
) -> None:
    """Run the step on a device of its own, unless it only uses the processor or whoever started it has seen to that."""
    context.check_inputs()
    context.check_outputs()
    context.identify(view.model_dump_json(by_alias=True), _versions())
    if not rank:
        context.sweep()
    numerics = getattr(view, "runtime", None)
    given = numerics is None or numerics.device == "cpu" or processes > 1 or _takes_over(view)
    step, share = context.step, params.runtime.gpu_share
    check = partial(machine.check_gpu, step, params)
    with nullcontext() if given else lease.leased(context.log, 1, share, check) as gpu:
        if gpu:
            context.log.to_file(f"on GPU {gpu}")
        _imported(f"imbnas.steps.{step}").run(view, context)
    if not rank:
        context.publish_cost()
        if record:
            record.write(context.root)


def _launch(
    step: str, params: Params, context: Context, processes: int, log_file: Path | None, code: str | None
) -> int:
    """Run the step in several processes, on CUDA with a GPU for each, and return the exit code."""
    context.check_inputs()
    context.check_outputs()
    options = ["--root", str(context.root)]
    options += [word for name, path in context.overrides.items() for word in ("--path", f"{name}={path}")]
    options += ["--log", str(log_file)] if log_file else []
    options += ["--code", code] if code else []
    check = partial(machine.check_gpu, step, params)
    with (
        nullcontext() if params.runtime.device == "cpu" else lease.leased(context.log, processes, 1.0, check) as gpus,
        tempfile.NamedTemporaryFile("w", prefix="imbnas-", suffix=".json", encoding="utf-8") as config,
    ):
        json.dump(params.tree(), config)
        config.flush()
        context.log.to_file(f"in {processes} processes{f' on GPUs {gpus}' if gpus else ''}")
        command = [sys.executable, "-m", "imbnas.cli", step, "--config", config.name, *options]
        return launch.run(command, processes, context.log)


def _check_code(step: str, expected: str | None) -> None:
    """Refuse to run other code than the caller planned with: a job may start hours after its controller."""
    found = step_digest(step)
    if expected is not None and not found.startswith(expected):
        raise UserError(
            f"code of the step {step}: found {found[: len(expected)]}, expected {expected}; "
            "it was edited after the run began, start the run again"
        )


def _check_multiplier(params: Params, root: Path) -> None:
    """Refuse a bad table of products in any step: the one that needs it comes after hours of training."""
    if params.approximate.multiplier == "table":
        from imbnas.approximate.chosen_table import chosen_table

        chosen_table(params.approximate, root)


def _check_int8(params: Params) -> None:
    """Refuse what needs a library that is not installed in any step: the one that uses it is the last."""
    if params.evaluate.int8:
        from imbnas.deploy.libraries import check_installed

        check_installed("evaluate.int8")


def _takes_over(view: View) -> bool:
    """Return whether the step takes a supernet of another project, for which one process and no GPU will do."""
    return getattr(getattr(view, "supernet", None), "reuse", None) is not None


def _check_reused(view: View, params: Params, root: Path) -> None:
    """Refuse a supernet of another project that does not fit before anything is written for it."""
    if _takes_over(view):
        from imbnas.data.supernet_fit import check_reused

        check_reused(params.supernet, params.space, params.target, root)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise in the main thread; a training loop installs a gentler handler while it holds state worth saving."""
    # A scheduler and a launcher may both send it: one is enough.
    signal.signal(signum, signal.SIG_IGN)
    raise Interrupted("asked to stop; nothing was half-written, run the same command again")


def _versions() -> dict[str, str]:
    """Return the versions that decide bits, without importing torch."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "numpy")}
