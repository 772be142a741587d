"""The closure of imports: what a quick look at a module's text finds is what its syntax has."""

from __future__ import annotations

import pytest

from imbnas.closure import SOURCE, parsed_imports, plain_imports

MODULES = sorted(SOURCE.rglob("*.py"))
PLAIN = {
    "from imbnas.a import b": {"imbnas.a", "imbnas.a.b"},
    "import imbnas.a as a  # why": {"imbnas.a"},
    "def f():\n    from imbnas import a, b as c  # noqa": {"imbnas", "imbnas.a", "imbnas.b"},
    "from imbnas.a import (\n    b,\n    c as d,\n)": {"imbnas.a", "imbnas.a.b", "imbnas.a.c"},
    '"""Says more of imbnas, and import."""\nimport imbnasty\nimbnas = 1': set(),
}
ODD = [
    "if TYPE_CHECKING:\n    from imbnas import a",
    "import os, imbnas.a",
    "import os,\\\n  imbnas.a",
    "from \\\n    imbnas import a",
    "from imbnas import a; from imbnas import b",
    "if True: from imbnas import a",
    "x = 1; import imbnas.a",
    "from imbnas.a import *",
    "from imbnas.a import (\n    b,  # one)\n    c,\n)",
    "from imbnas.a import b, \\\n    c",
    '"""Type this:\n\n    from imbnas import a\n"""',
    "code = '''\nimport imbnas.a\n'''",
    "from imbnas.a import b\r\nimport imbnas.c\r\n",
]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_imports_need_no_syntax_tree(text: str) -> None:
    assert plain_imports(text) == parsed_imports(text) == PLAIN[text]


@pytest.mark.parametrize("text", ODD)
def test_any_other_import_is_left_to_the_syntax(text: str) -> None:
    assert plain_imports(text) is None
    parsed_imports(text)


def test_both_agree_on_every_module() -> None:
    texts = [file.read_text(encoding="utf-8") for file in MODULES]
    plain = [plain_imports(text) for text in texts]
    assert sum(names is None for names in plain) < len(MODULES) / 10
    for file, text, names in zip(MODULES, texts, plain, strict=True):
        assert names is None or names == parsed_imports(text), file
