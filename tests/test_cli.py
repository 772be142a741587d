"""The command line as a person sees it: whole summaries, straight columns, letters in any locale."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from imbnas.params import presets


def shown(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "imbnas.cli", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_the_help_shows_whole_summaries(columns: str) -> None:
    text = " ".join(shown("--help", COLUMNS=columns, TERMINAL_WIDTH=columns).split())
    assert "..." not in text.partition("Commands:")[2]
    assert "Print the JSON schema of params.yaml, which editors use for completion and checks." in text


def test_presets_are_listed_in_two_straight_columns() -> None:
    lines = shown("init", "--list").splitlines()
    assert [line.split()[0] for line in lines] == list(presets.names())
    begin = {line.index(presets.summary(name)) for line, name in zip(lines, presets.names(), strict=True)}
    assert len(begin) == 1


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
PRINT = """
from pathlib import Path
from imbnas import cli, predict
found = [predict.Prediction(Path("ph\\u00f6to.png"), [("\\u72ac", 0.75)])]
for as_json in (False, True):
    cli.app = lambda: predict.print_predictions(found, as_json)
    cli.main()
"""


def test_letters_beyond_ascii_are_escaped_in_an_ascii_locale() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINT], env={**os.environ, **ASCII}, capture_output=True, encoding="ascii", check=True
    )
    line, _, printed = done.stdout.partition("\n")
    assert line == "ph\\xf6to.png\t\\u72ac\t0.750000"
    (found,) = json.loads(printed)
    assert found == {"image": "ph\u00f6to.png", "classes": [{"class": "\u72ac", "probability": 0.75}]}
