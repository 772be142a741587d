"""Sphinx's configuration: the documentation as one site, built by `make docs`.

The sources are read from the root of the repository, so links work there, in a clone and on the site alike.
"""

from __future__ import annotations

import imbnas

project = "imbnas"
author = "the imbnas developers"
release = imbnas.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = ["docs/_build"]
html_theme = "furo"
html_title = f"imbnas {release}"

myst_heading_anchors = 3
# Results and presets are shown as indented text: nothing is guessed about its language.
highlight_language = "none"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_display_short_literal_types = True
# Every link inside the site must lead somewhere; `make docs` turns warnings into errors.
nitpicky = False
