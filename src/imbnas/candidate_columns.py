"""The columns that results/search.parquet has whatever the method: of candidates, or of a search's epochs."""

from __future__ import annotations

import pyarrow as pa

CANDIDATE: dict[str, pa.DataType] = {
    "evaluation": pa.int64(),
    "generation": pa.int64(),
    "architecture": pa.string(),
    "score": pa.float64(),
    "standard_error": pa.float64(),
    "balanced_accuracy": pa.float64(),
    "accuracy": pa.float64(),
    "worst_class": pa.float64(),
    "macs": pa.int64(),
    "params": pa.int64(),
    "rank": pa.int64(),
    "chosen": pa.bool_(),
}
"""The types of the columns, in order; accuracies are in [0, 1], `macs` and `params` those of one image and network."""
