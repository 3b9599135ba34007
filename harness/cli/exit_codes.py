"""The table of exit codes, made from the error tree: ``python -m harness.cli.exit_codes > docs/exit-codes.md``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

from harness.core.errors import HarnessError, MissingExtra
from harness.core.text import table_cell

_HEAD = """\
# Exit codes

Every command of `harness` ends with one of these. Scripts may rely on them: a code never changes its meaning.
On failure the command prints what was wrong, what to do next, and the code; a command line that does not parse is
answered with its usage and code 2. Output that nobody reads on (`| head`) ends a command that only prints with 1,
without a word. Those that drive jobs (`run`, `demo`, `fleet run`, `download`, `adopt`, `destroy`, `abandon`), `watch`
and `conformance` say so on stderr and go on in silence, to their own exit code: an instance bills whether somebody
reads or not.
`pytest checks/ --stage=...` keeps pytest's own codes (0 open, 1 not open; 2 interrupted, 3 when the verdicts could not
be written; 4 and 5 when nothing could be judged).

| code | name | meaning | what to do |
|---:|---|---|---|
| 0 | | It is done, or the answer is yes. | |
"""
_FOOT = """\
| 130 | | Interrupted with Ctrl-C. What was done is recorded; no job's instance is stopped or destroyed, and what \
bills is said. | Run the same command again: it goes on. |
| 143 | | Ended by SIGTERM, with the same words; 129 when its terminal was closed (SIGHUP), 149 by Ctrl-Break. \
| Run the same command again: it goes on. |
"""


def table() -> str:
    """The page in Markdown."""
    rows = sorted(_tree(HarnessError), key=lambda error: error.exit_code)
    return _HEAD + "".join(f"{_row(error)}\n" for error in rows) + _FOOT


def _tree(root: type[HarnessError]) -> Iterator[type[HarnessError]]:
    """The classes of the harness's own tree, each before its special cases."""
    if root.__module__ == HarnessError.__module__:
        yield root
        for special in root.__subclasses__():
            yield from _tree(special)


def _row(error: type[HarnessError]) -> str:
    meaning = inspect.getdoc(error) or ""
    remedy = MissingExtra("it", "extra").remedy if error is MissingExtra else error.default_remedy
    return f"| {error.exit_code} | `{error.__name__}` | {table_cell(meaning)} | {table_cell(remedy)} |"


if __name__ == "__main__":
    sys.stdout.write(table())
