"""Settings of Sphinx: the pages as they are read on GitHub, and what is taken from the code when the site is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from sphinx.application import Sphinx

from harness import __version__

ROOT: Final = Path(__file__).resolve().parents[1]
REPOSITORY: Final = "https://github.com/gold-standard-harness/gold-standard-harness"
_OUTSIDE: Final = re.compile(r"(\]\(|\]: |src=\")\.\./(?=[\w.])")
"""Where a page links to a file of the repository that is no page."""

project = "gold-standard-harness"
author = copyright = "The harness team"  # noqa: A001 - the name is Sphinx's
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!harness\.api).*")]  # the API's own names are held, not what they are made of
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = f"{project} {version}"
html_theme_options = {"source_repository": REPOSITORY, "source_branch": "main", "source_directory": "docs/"}
html_static_path: list[str] = []


def _links_out(_: Sphinx, __: str, source: list[str]) -> None:
    """Files of the repository that are no pages are read on GitHub."""
    source[0] = _OUTSIDE.sub(rf"\g<1>{REPOSITORY}/blob/main/", source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _links_out)
