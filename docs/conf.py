"""The documentation as a site: ``tox -e docs``, or ``sphinx-build -W -n docs OUTPUT``."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from tokenwire import __version__

# Trees of documents are large and live to the end: a third of the time would go into the collector.
gc.disable()

project = "tokenwire"
author = "The tokenwire authors"
version = release = __version__
project_copyright = "The tokenwire authors. Apache-2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "layers",
    "public_api",
    "repository_pages",
]
exclude_patterns = ["_ext"]

# Pages. They are read on GitHub, too: links are those of Markdown, and anchors those of GitHub.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]  # Mermaid

# The reference.
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"
# Python's own types, and those of other packages, are not linked: the site is built offline.
nitpick_ignore_regex = [
    ("py:.*", r"(?!tokenwire).*"),
    # Neither are private types in the signatures of public functions, and type variables.
    ("py:class", r"tokenwire\w*\.(.*\.)?_.*"),
    ("py:class", r"tokenwire.*\.[A-Z]"),
]

html_theme = "furo"
html_title = f"tokenwire {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
