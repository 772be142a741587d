"""`make gpu`: tests, ratios, rows of a truth table and the literature's presets on a GPU, within a budget of seconds.

    python experiments/gpu_run.py --budget 300 --out DIR        on a machine with a GPU, after `make gpu-pack` elsewhere
    python experiments/gpu_run.py --device cpu --budget 60      a rehearsal of everything at tiny size

Each part (`gpu_parts.py`) is a process of its own, asked to stop when its time is up. What is finished goes into
`state.tar`, from which a later run, on another bare machine, goes on (`--previous DIR`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import gpu_summary
from gpu_parts import PARTS, Part
from gpu_setting import BASE, CONTINUED, ROOT, Setting, commit

LEAST = 4.0
"""Seconds with which no part is begun."""
POLL = 0.1
PROBE = """
import json, platform, sys
import torch, torchvision, optuna, pandas, pyarrow, scipy, sklearn, matplotlib, safetensors, typer, rich, pytest
import imbnas.params.config, imbnas.run.context as context
device = sys.argv[1]
if device == "cuda" and not torch.cuda.is_available():
    sys.exit("torch sees no GPU, expected one; --device cpu rehearses without")
name = torch.cuda.get_device_name() if device == "cuda" else context.processor_model()
print(json.dumps({"hardware": name, "torch": torch.__version__, "python": platform.python_version()}))
"""


@dataclass(frozen=True)
class Outcome:
    """One part of this run: `state` is done, to be continued, or failed."""

    part: str
    state: str
    seconds: float
    lines: list[str]
    """The last lines of its output."""


class Runner:
    """Starts the parts of one run until the time is up or somebody asks it to stop."""

    def __init__(self, setting: Setting, parts: Sequence[Part], deadline: float, grace: float) -> None:
        """Take the setting; `deadline` is a time of the monotonic clock, `grace` the seconds that a stop may take."""
        self._setting, self._parts, self._deadline, self._grace = setting, parts, deadline, grace
        self._stopped = False
        self._found: dict[str, Outcome] = {}

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Stop the part that runs, and begin no other: the handler of signals."""
        self._stopped = True

    def run(self) -> list[Outcome]:
        """Run each part for its share of the time, then those that are not finished while there is any."""
        for part in self._parts:
            self._go_on(part, part.share)
        for part in self._parts:
            if self._found[part.name].state == "to be continued":
                self._go_on(part, 1.0)
        return list(self._found.values())

    def _go_on(self, part: Part, share: float) -> None:
        before = self._found.get(part.name)
        left = self._deadline - time.monotonic()
        if self._stopped or left < LEAST:
            if before is None:
                self._found[part.name] = Outcome(part.name, "to be continued", 0.0, ["no time was left to begin it"])
            return
        log = self._setting.work / "logs" / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        with log.open("ab") as stream:
            place = stream.tell()
            code, asked = self._waited(part, begin + max(LEAST, share * left), stream.fileno())
        seconds = time.monotonic() - begin + (before.seconds if before else 0.0)
        with log.open("rb") as stream:
            stream.seek(place)
            lines = stream.read().decode(errors="replace").strip().splitlines()
        if code == 0:
            state = "done"
        elif code in (CONTINUED, -signal.SIGTERM) or (asked and code == -signal.SIGKILL):
            state = "to be continued"
        else:
            state, lines = "failed", [*lines, f"ended with code {code}"]
        self._found[part.name] = Outcome(part.name, state, seconds, lines[-12:] if state == "failed" else lines[-1:])
        print(f"{part.name}: {state}, {seconds:.0f} s", *lines[-1:], sep="\n  ", flush=True)

    def _waited(self, part: Part, until: float, output: int) -> tuple[int, bool]:
        """Run a part until `until`; return its exit code, and whether it was asked to stop."""
        script = ROOT / "experiments" / part.script
        process = subprocess.Popen(
            [sys.executable, str(script), *self._setting.words()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment(self._setting),
            start_new_session=True,
        )
        try:
            while process.poll() is None and time.monotonic() < until and not self._stopped:
                time.sleep(POLL)
            if process.poll() is not None:
                return process.returncode, False
            os.killpg(process.pid, signal.SIGTERM)
            try:
                return process.wait(timeout=self._grace), True
            except subprocess.TimeoutExpired:
                print(f"{part.name}: did not stop within {self._grace:.0f} s, killed", flush=True)
                return -signal.SIGKILL, True
        finally:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a part's processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(setting: Setting) -> dict[str, str]:
    """Return the environment of a part: the code of this clone, after it the packages that were brought."""
    places = [str(ROOT / "src"), str(setting.work / "site"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), "PYTHONUNBUFFERED": "1"}


def prepare_machine(setting: Setting) -> str | None:
    """Look at the machine, after installing the pack's wheels where packages lack; return what is wrong with it."""
    error = _probe(setting)
    wheels = sorted((setting.pack / "wheels").glob("*.whl"))
    if error is not None and wheels and "ModuleNotFoundError" in error:
        site = setting.work / "site"
        shutil.rmtree(site, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site)]
        done = subprocess.run([*command, *map(str, wheels)], capture_output=True, text=True, check=False)
        error = done.stderr.strip() if done.returncode else _probe(setting)
    return error


def _probe(setting: Setting) -> str | None:
    command = [sys.executable, "-c", PROBE, setting.device]
    done = subprocess.run(command, env=environment(setting), capture_output=True, text=True, check=False)
    if done.returncode:
        return "\n".join(done.stderr.strip().splitlines()[-3:])
    (setting.work / "machine.json").write_text(done.stdout.splitlines()[-1])
    return None


def rehearse(setting: Setting) -> None:
    """Make the pack of a rehearsal anew, without wheels."""
    command = [sys.executable, str(ROOT / "experiments/gpu_pack.py"), "--tiny", "--pack", str(setting.pack)]
    done = subprocess.run(command, env=environment(setting), check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> int:
    """Run, write what comes back, and return the exit code."""
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal at tiny size")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds for everything")
    parser.add_argument("--out", type=Path, help="where the results go (default: .gpu/out)")
    parser.add_argument("--previous", type=Path, help="the results of an earlier run (default: .gpu/previous)")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="only these")
    options = parser.parse_args()
    base = BASE if options.device == "cuda" else BASE / "rehearsal"
    if options.device == "cpu":
        shutil.rmtree(base, ignore_errors=True)
    setting = Setting(options.device, base / "pack", base / "work")
    out = options.out or base / "out"
    for folder in (setting.results, out):
        folder.mkdir(parents=True, exist_ok=True)
    gpu_summary.restore(options.previous or base / "previous", setting.work)
    if options.device == "cpu":
        # Elsewhere the pack was made before: it does not count.
        rehearse(setting)
        begin = time.monotonic()
    reserve = min(20.0, max(4.0, options.budget / 15))
    parts = [part for part in PARTS if options.parts is None or part.name in options.parts]
    runner = Runner(setting, parts, begin + options.budget - reserve, reserve / 2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, runner.stop)
    error = prepare_machine(setting)
    if error is None:
        outcomes = runner.run()
    else:
        outcomes = [Outcome("machine", "failed", time.monotonic() - begin, error.splitlines())]
    facts = {
        "commit": commit(setting.pack),
        "device": setting.device,
        "budget": options.budget,
        "seconds": round(time.monotonic() - begin, 1),
        **setting.machine(),
    }
    print(gpu_summary.write(setting, out, facts, outcomes))
    return exit_code(setting, outcomes)


def exit_code(setting: Setting, outcomes: Sequence[Outcome]) -> int:
    """Return 1 where a part failed, or a rehearsal has not even begun one: it would say nothing of it."""
    return int(any(one.state == "failed" or (setting.tiny and not one.seconds) for one in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
