"""The public names: importable, light, typed alike, and shown in docs/python.md with results that are compared."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import imbnas

ROOT = Path(__file__).resolve().parents[1]


def test_every_example_of_the_page_gives_what_it_says() -> None:
    failed, tried = doctest.testfile(str(ROOT / "docs/python.md"), module_relative=False)
    assert tried > 30
    assert failed == 0


@pytest.mark.parametrize("name", imbnas.__all__)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(imbnas, name)
    assert name == "__version__" or value.__doc__
    assert name in dir(imbnas)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build_lost'"):
        imbnas.build_lost  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import imbnas, sys; dir(imbnas); print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_types_are_those_of_the_public_names() -> None:
    stub = ast.parse((ROOT / "src/imbnas/__init__.pyi").read_text())
    typed = {node.module: node.names[0].asname for node in stub.body if isinstance(node, ast.ImportFrom)}
    found = {(node.module, node.names[0].asname) for node in stub.body if isinstance(node, ast.ImportFrom)}
    assert typed
    assert found == {(f"imbnas.{module}", name) for name, module in imbnas._PUBLIC.items()}
