"""Sphinx settings. ``nox -s docs`` builds the site, strictly, into ``docs/_build/site``."""

from __future__ import annotations

import sys
from pathlib import Path

from stackauth_middleware import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "stackauth-middleware"
author = "The stackauth-middleware maintainers"
copyright = author  # noqa: A001
release = version = __version__
html_title = f"{project} {release}"
html_short_title = "ASGI and WSGI middleware that verifies Stack Auth (Hexclave) access tokens in Python web apps."
html_theme = "furo"
html_copy_source = False  # the page is there as Markdown
html_show_copyright = False

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_markdown_builder", "from_code"]
exclude_patterns = ["_build"]
default_role = "py:obj"

myst_enable_extensions = ["deflist", "attrs_inline"]
myst_heading_anchors = 3

python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
