"""Settings of Sphinx: the pages as they are read on GitHub, and what is taken from the code when the site is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sphinx.application import Sphinx

from harness import __version__
from harness.cli.main import COMMANDS, load

ROOT: Final = Path(__file__).resolve().parents[1]
REPOSITORY: Final = "https://github.com/gold-standard-harness/gold-standard-harness"
_OUTSIDE: Final = re.compile(r"(\]\(|\]: |src=\")\.\./(?=[\w.])")
"""Where a page links to a file of the repository that is no page."""

_PATTERN: Final = re.compile(r"^([\w-]+\*)\n", re.MULTILINE)
_COMMANDS: Final = "<!-- every command with its options is put here when the site is built -->"

project = "gold-standard-harness"
author = copyright = "The harness team"  # noqa: A001 - the name is Sphinx's
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
smartquotes = False  # two hyphens are an option's

nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!harness\.api).*")]  # the API's own names are held, not what they are made of
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = f"{project} {version}"
html_theme_options = {"source_repository": REPOSITORY, "source_branch": "main", "source_directory": "docs/"}
html_static_path: list[str] = []


def _read(app: Sphinx, _: str, source: list[str]) -> None:
    """Files of the repository that are no pages are read on GitHub; the list of commands is the programs' own.

    A pattern of a toctree that no page fits is left out, for Sphinx warns of it.
    """
    source[0] = _PATTERN.sub(lambda found: found[0] if any(app.srcdir.glob(f"{found[1]}.md")) else "", source[0])
    source[0] = _OUTSIDE.sub(rf"\g<1>{REPOSITORY}/blob/main/", source[0])
    if _COMMANDS in source[0]:
        commands = {f"harness {name}": load(place, name) for name, (place, _) in COMMANDS.items()}
        told = (line for name, command in commands.items() for line in _command(command, name))
        source[0] = source[0].replace(_COMMANDS, "\n".join(told))


def _command(command: Any, name: str, depth: int = 2) -> Iterator[str]:
    """Lines about a command and those below it: its line of help, its usage, its arguments and options."""
    with command.context_class(command, info_name=name) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        records = [one.get_help_record(context) for one in command.get_params(context)]
    yield from ("", f"{'#' * depth} {name}", "", command.help or "", "", f"`{name} {usage}`", "")
    for told in filter(None, records):
        words, says = (re.sub(r"\s+", " ", text).strip() for text in told)
        yield from (f"`{words}`", f": {says or 'This message.'}", "")
    for below, one in getattr(command, "commands", {}).items():
        yield from _command(one, f"{name} {below}", depth + 1)


def _no_signature(_: Sphinx, what: str, *__: Any) -> tuple[str, None] | None:
    """Facts and jobs are made by the harness: how is nobody's concern."""
    return ("", None) if what == "class" else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _no_signature)
    app.connect("source-read", _read)
