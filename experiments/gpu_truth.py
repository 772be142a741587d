"""A part of `make gpu`: rows of the truth table on this device, in a table of its own, until the time is up."""

from __future__ import annotations

import shutil
import signal
from types import FrameType

import gpu_plan
import gpu_rows
import yaml
from gpu_setting import CONTINUED, Setting, given

from imbnas.errors import Interrupted, UserError
from imbnas.files import read_json
from imbnas.progress import Log
from imbnas.truth import shards
from imbnas.truth.collecting import collect
from imbnas.truth.places import Table


def main() -> int:
    """Train what is not finished, write the table of what is, and return the exit code."""
    setting = given()
    signal.signal(signal.SIGTERM, _interrupt)
    table = described(setting)
    log, code = Log("truth"), 0
    packed = read_json(setting.pack / "pack.json", "what `make gpu-pack` has packed")
    if packed["rows"] != table.rows.name:
        raise UserError(
            f"{setting.pack}: rows of other code or parameters than here, expected the same; make the pack again"
        )
    gpu_rows.unpack(setting.pack, gpu_rows.places_of(table))
    try:
        shards.agree(table, log)
        for seed in range(table.spec.seeds):
            shards.train_shard(table, seed, 0, 1, log)
    except Interrupted:
        code = CONTINUED
    records = shards.opened(table)
    cells = list(records.cells())
    finished = sum(records.of(cell) is not None for cell in cells)
    if finished:
        collect(table, log)
        setting.results.mkdir(parents=True, exist_ok=True)
        for suffix in (".parquet", "-seconds.csv"):
            shutil.copy(table.beside(suffix), setting.results / f"truth{suffix}")
    print(f"{finished} of {len(cells)} rows of {table.name}")
    return code


def described(setting: Setting) -> Table:
    """Return the table, whose description is written below the work's directory."""
    name, tree = gpu_plan.table(setting.device)
    root = setting.work / "truth"
    file = root / "tables" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    (root / tree["target"]["root"]).mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return Table(file, root)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Interrupted("asked to stop")


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
