"""Section `search`: ranking subnets with the adapted supernet."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imbnas.params.approximate import ApproximateParams, TablePath
from imbnas.params.differentiable import DartsParams
from imbnas.params.inheritance import StartParams
from imbnas.params.recipe import CalibrationParams
from imbnas.params.section import Section, View, short
from imbnas.params.shared import Batch, CostLimit, Count, EnergyLimit, LatencyLimit, Numerics, Rounds
from imbnas.params.shifting_options import ShiftingParams
from imbnas.params.space_options import MOST_BLOCKS, SpaceParams

Choose = Literal["best", "cheapest-within-one-error"]
COST_METHODS = ("macs", "params")
"""Methods that take the largest architecture within the limits."""
PROXY_METHODS = ("synflow", "jacobian")
"""Methods that score networks at initialisation."""


class SearchParams(Section):
    """The search."""

    method: Literal[
        "evolution",
        "random",
        "exhaustive",
        "tpe",
        "nsga2",
        "macs",
        "params",
        "synflow",
        "jacobian",
        "darts",
        "fixed",
    ] = "evolution"
    """How architectures are proposed; `macs` and `params` take the largest within the limits, `synflow` and `jacobian`
    score random ones at initialisation, `darts` descends on a continuous one, `fixed` takes `architecture` as given."""
    objective: Literal["balanced_accuracy", "accuracy", "worst_class"] = "balanced_accuracy"
    """What is maximised on the validation rows."""
    choose: Choose = "best"
    """Which candidate is taken: the one with the best score, or the one with the fewest MACs (with `latency`, the least
    latency; under an approximate multiplier, the least energy) among those within one standard error of it, that of the
    paired difference on the same validation rows."""
    population: Annotated[int, Field(ge=2, le=10**5)] = 20
    """Architectures in one generation of `evolution` and `nsga2`."""
    generations: Rounds = 8
    """Generations of `evolution` and `nsga2`, the random first one included."""
    parents: Rounds = 8
    """Best architectures so far that `evolution` breeds from."""
    mutation: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1
    """Chance that mutation redraws a choice block."""
    candidates: Rounds = 160
    """Architectures that `random`, `tpe`, `synflow` and `jacobian` evaluate."""
    max_macs: CostLimit | None = None
    """Most multiply-accumulate operations for one image, as a number or as a share of what the largest architecture
    has, which is the one with the most of them: `0.6x`; null: no limit."""
    max_params: CostLimit | None = None
    """Most parameters, the head included, as a number or as a share of that architecture's; null: no limit."""
    latency: TablePath | None = None
    """A table below `tables/`, CSV or Parquet, of what each block takes on some device, which `imbnas latency`
    measures: latency is then a cost beside MACs and parameters. null: no table."""
    max_latency: LatencyLimit | None = None
    """Most milliseconds of one forward pass as the sum over that table's blocks, with its batch size, as a number or as
    a share of what the architecture with the most MACs takes; null: no limit."""
    max_energy: EnergyLimit | None = None
    """Most nanojoules of one image's multiplications and additions (`approximate.energy`), as a number or as a share of
    what the architecture with the most MACs takes; null: no limit."""
    architecture: Annotated[list[Count], Field(max_length=MOST_BLOCKS)] | None = None
    """The choices of `fixed`, one per block; null: the only architecture of a space that has no choices."""
    calibration: CalibrationParams = CalibrationParams()
    """BatchNorm calibration."""
    batch_size: Batch = 512
    """Validation rows in one forward pass; does not change scores beyond rounding."""
    fold_batchnorm: bool = False
    """Let convolutions do the work of the calibrated BatchNorm layers behind them while paths are scored: a part of the
    time less, scores of other bits."""
    table: TablePath | None = None
    """A table below `tables/`, CSV or Parquet, that scores architectures in place of the supernet, whose weights are
    not looked at; only its cells are candidates. null: no table."""
    table_column: Annotated[str, Field(min_length=1, max_length=200)] = "validation"
    """Of `table`: the column to maximise."""
    table_condition: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Of `table`: the condition, where it holds several."""
    table_device: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Of `table`: the device, where it holds several."""
    table_precision: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Of `table`: the precision, where it holds several."""
    shifting: ShiftingParams = ShiftingParams()
    """Supernet Shifting, of the method `evolution`."""
    darts: DartsParams = DartsParams()
    """Of the method `darts`."""

    @property
    def judged(self) -> bool:
        """Say whether candidates are scored on validation rows."""
        return self.table is None and self.method not in (*COST_METHODS, *PROXY_METHODS, "darts", "fixed")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.method != "fixed" and self.architecture is not None:
            raise ValueError(
                f"method is {self.method} and architecture is {short(self.architecture)}, "
                "expected choices for fixed only"
            )
        if self.table is not None and self.method in (*PROXY_METHODS, "darts", "fixed"):
            raise ValueError(
                f"table is {self.table} with method {self.method}, expected null: it takes no scores from a table"
            )
        if self.choose != "best" and not self.judged:
            scored = f"table {self.table}" if self.table is not None else f"method {self.method}"
            raise ValueError(
                f"choose is {self.choose} with {scored}, expected best: only scores on validation rows have an error"
            )
        if self.shifting.updates:
            self._shifts()
        if self.parents > self.population:
            raise ValueError(f"parents is {self.parents}, expected at most population ({self.population})")
        if self.max_latency is not None and self.latency is None:
            raise ValueError(
                f"max_latency is {short(self.max_latency)} and latency is null, expected a table that `imbnas latency` "
                "writes"
            )
        if self.method == "darts":
            for name in ("max_macs", "max_params", "max_latency", "max_energy", "latency"):
                if (value := getattr(self, name)) is not None:
                    raise ValueError(
                        f"{name} is {value} with method darts, expected null: gradient descent knows no limit"
                    )
        return self

    def _shifts(self) -> None:
        found = f"shifting.updates is {self.shifting.updates}"
        if self.method != "evolution":
            raise ValueError(
                f"{found} with method {self.method}, expected 0, or evolution: the supernet moves after a generation "
                "that was scored as a whole"
            )
        if self.table is not None:
            raise ValueError(f"{found} with table {self.table}, expected 0: the supernet is not looked at")


class SearchView(View):
    """The view of the step `search`."""

    seed: int
    space: SpaceParams
    runtime: Numerics
    search: SearchParams
    retrain: StartParams
    approximate: ApproximateParams = ApproximateParams()
