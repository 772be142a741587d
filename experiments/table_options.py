"""The options that the experiments on a truth table share."""

from __future__ import annotations

import argparse
from pathlib import Path


def table_parser(description: str | None, condition: str, seeds: str, count: int = 5) -> argparse.ArgumentParser:
    """Return a parser of a table, its data and project, `--condition` and `--seeds`, which is `count` unless given."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", default=Path("tables/cifar10-lt-16.yaml"))
    parser.add_argument("--data", type=Path, help="raw files, in place of target.root")
    parser.add_argument("--root", type=Path, default=Path(), help="the project's directory")
    parser.add_argument("--condition", default="longtail", help=condition)
    parser.add_argument("--seeds", type=int, default=count, help=seeds)
    return parser
