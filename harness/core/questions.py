"""Questions that the box answers, each with the type of its answer. Pure.

A question's fields are the arguments of the function that answers it: the one that ``OPERATIONS`` in
``harness.remote.box.answer`` has under its ``op``. Relative paths start at HOME, ``~`` expands.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar, get_args

from harness.core import answers
from harness.core.observed import Observed, unseen

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """One thing to look at on the box, answered with a T."""

    op: ClassVar[str]
    """Name of the operation on the box."""

    @classmethod
    def answer_type(cls) -> Any:
        """The T of the class, for whoever validates an answer."""
        return get_args(cls.__orig_bases__[0])[0]  # type: ignore[attr-defined]  # every class with a base [T] has it

    def arguments(self) -> dict[str, Any]:
        """The operation's arguments by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def paths(self, answer: T) -> Iterable[str]:
        """Paths on the box that an answer names; each must lie below ``within``."""
        del answer
        return ()

    @property
    def within(self) -> str:
        """Directory with which the answer's paths begin; empty when they are relative."""
        return ""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of one probe; a question without one could not be looked at."""

    by_question: Mapping[Question[Any], Observed[Any]]

    def __getitem__(self, question: Question[T]) -> Observed[T]:
        return self.by_question.get(question, unseen(f"the box was not asked: {question.op}"))


@dataclass(frozen=True, slots=True)
class Glob(Question[tuple[answers.Entry, ...]]):
    """Files and directories that match a pattern, by path: ``*`` and ``?`` match, every other character is itself."""

    pattern: str
    op = "glob"

    def paths(self, answer: tuple[answers.Entry, ...]) -> Iterable[str]:
        """Every match."""
        return (entry.path for entry in answer)

    @property
    def within(self) -> str:
        """Folder that every match of the pattern lies in."""
        return posixpath.dirname(re.split(r"[*?]", self.pattern, maxsplit=1)[0])


@dataclass(frozen=True, slots=True)
class DigestOf(Question[answers.Digest]):
    """A file's size and SHA-256."""

    path: str
    op = "sha256"


@dataclass(frozen=True, slots=True)
class TreeOf(Question[answers.Tree]):
    """Everything below a directory but the folder ``without``; only the files named by ``digests`` are hashed."""

    path: str
    digests: tuple[str, ...] = ()
    without: str = ""
    op = "tree"

    def paths(self, answer: answers.Tree) -> Iterable[str]:
        """Every entry, relative to the directory."""
        return (entry.path for entry in answer.entries)


@dataclass(frozen=True, slots=True)
class ReadText(Question[answers.Text]):
    """The first ``limit`` bytes of a text file."""

    path: str
    limit: int
    op = "read_text"


@dataclass(frozen=True, slots=True)
class TailOf(Question[answers.Tail]):
    """The last lines of a text file within its last ``limit`` bytes."""

    path: str
    lines: int
    limit: int
    op = "tail"


@dataclass(frozen=True, slots=True)
class LinesFrom(Question[answers.Lines]):
    """The whole lines of a growing text file from byte ``start`` on, at most ``limit`` bytes of them.

    A negative ``start`` counts from the file's end, and the line that it falls into is left out.
    """

    path: str
    start: int
    limit: int
    op = "lines"


@dataclass(frozen=True, slots=True)
class Grep(Question[answers.Matches]):
    """The last lines of a file in which a regular expression is found, and how many there are in all."""

    path: str
    pattern: str
    last: int
    op = "grep"


@dataclass(frozen=True, slots=True)
class ExcerptOf(Question[answers.Excerpt]):
    """The lines of a log that matter, within ``limit`` bytes of JSON; see ``harness.remote.box.excerpt``."""

    path: str
    pattern: str
    plenty: str
    limit: int
    fleeting: str = ""
    op = "excerpt"


@dataclass(frozen=True, slots=True)
class DiskOf(Question[answers.Disk]):
    """The file system that holds a path or its nearest existing parent."""

    path: str
    op = "disk"


@dataclass(frozen=True, slots=True)
class Now(Question[answers.BoxTime]):
    """The box's clock."""

    op = "now"


@dataclass(frozen=True, slots=True)
class Command(Question[answers.Ran]):
    """A program run without a shell; one that takes longer than ``timeout`` seconds is a problem."""

    argv: tuple[str, ...]
    cwd: str = "~"
    timeout: float = 30.0
    op = "command"


@dataclass(frozen=True, slots=True)
class PackagesOf(Question[answers.Packages]):
    """Versions of packages as installed for an interpreter."""

    python: str
    names: tuple[str, ...]
    op = "python_packages"


@dataclass(frozen=True, slots=True)
class GpuList(Question[answers.Gpus]):
    """All GPUs that nvidia-smi shows."""

    op = "gpus"


@dataclass(frozen=True, slots=True)
class TmuxSessions(Question[answers.Terminals]):
    """The sessions of tmux."""

    op = "tmux_sessions"


@dataclass(frozen=True, slots=True)
class ProcessesUnder(Question[answers.Processes]):
    """Processes that work in or below a directory, and all their descendants."""

    directory: str
    op = "processes"


@dataclass(frozen=True, slots=True)
class SessionOf(Question[answers.SessionState]):
    """State of the training that was started in a directory."""

    directory: str
    op = "session"


@dataclass(frozen=True, slots=True)
class CheckpointsIn(Question[tuple[answers.BoxCheckpoint, ...]]):
    """The directories ``checkpoint-<step>`` of a directory, by step; ``known`` are seals of what was read before."""

    path: str
    known: tuple[str, ...] = ()
    op = "checkpoints"

    def paths(self, answer: tuple[answers.BoxCheckpoint, ...]) -> Iterable[str]:
        """Every checkpoint."""
        return (checkpoint.path for checkpoint in answer)

    @property
    def within(self) -> str:
        """The directory itself."""
        return self.path


@dataclass(frozen=True, slots=True)
class GgufOf(Question[answers.GgufOnBox]):
    """The header of a GGUF file, read by the strict parser."""

    path: str
    op = "gguf"


@dataclass(frozen=True, slots=True)
class WeightsOf(Question[answers.WeightsOnBox]):
    """The headers of a folder's safetensors, read by the strict parser, each as its index says."""

    path: str
    op = "weights"
