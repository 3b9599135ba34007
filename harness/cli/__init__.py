"""The command line: one file a command group; it prints, and never decides."""

from harness import __version__

VERSION_LINE = f"gold-standard-harness {__version__}"
"""The answer to ``--version``."""
