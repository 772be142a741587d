"""`imbnas latency`: what each block of the space takes on this device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbnas.cli_options import ConfigFile, Root
from imbnas.errors import visible
from imbnas.files import check_writable

Output = Annotated[Path, typer.Option("--output", metavar="FILE", help="Table to write: .csv or .parquet.")]


def latency(
    output: Output = Path("tables/latency.csv"),
    config: ConfigFile = Path("params.yaml"),
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Images in one pass.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, max=1024, help="Default: runtime.threads.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="auto, cpu or cuda; default: runtime.device.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=3, help="Repetitions, of which medians.")] = 50,
    classes: Annotated[
        int | None, typer.Option("--classes", metavar="N", min=2, help="Of your own images before `target` ran.")
    ] = None,
    root: Root = Path(),
) -> None:
    """Measure each block of the space on this device, as a cost of a search (search.latency, search.max_latency)."""
    from imbnas.errors import UserError
    from imbnas.params.config import load
    from imbnas.params.shared import Numerics
    from imbnas.run.context import processor_model
    from imbnas.run.expected_classes import known_classes
    from imbnas.search import latency as measurement

    if output.suffix not in (".csv", ".parquet"):
        raise UserError(f"--output {output}: expected a file that ends in .csv or .parquet")
    if device not in (None, "auto", "cpu", "cuda"):
        raise UserError(f"--device {device}: expected auto, cpu or cuda")
    file = root / output
    for place in (file, file.with_suffix(".json")):
        check_writable(place)
    params = load(config)
    given = {"threads": threads, "device": device}
    numerics = Numerics.model_validate(
        {name: getattr(params.runtime, name) for name in Numerics.model_fields}
        | {name: value for name, value in given.items() if value is not None}
    )
    count = classes or known_classes(params.target, root)
    if count is None:
        raise UserError(
            f"--classes: not given, and not known for target.dataset {params.target.dataset} before `imbnas target` "
            "ran, expected their number"
        )
    wanted = measurement.Wanted(params.space, params.target.shape, count, batch, numerics, rounds, params.seed)
    found = measurement.measure(wanted)
    beside = measurement.write(file, wanted, found, processor_model())
    print(f"{visible(file)}: {len(found.rows)} rows; {visible(beside)}: how they were measured")
    for line in measurement.sentences(found, batch):
        print(line)
