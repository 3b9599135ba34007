"""The package's errors: each says what was seen, where, and what to do."""

from __future__ import annotations


class PackageError(Exception):
    """A failure that the package understands; its message ends the log as ``TRAINING FAILED: <message>``."""


class BadConfig(PackageError):
    """An option or a configuration file cannot be used as it is."""


class DataDefect(PackageError):
    """A data file is missing or a line of it is not what the schema says; names the file and the line."""


class Refused(PackageError):
    """A way of running that is known to lose the money; nothing was loaded or written."""


class TrainingDefect(PackageError):
    """The training did something that a sound training does not do."""


class ExportDefect(PackageError):
    """The file written is not the model trained, or the base model cannot be exported."""
