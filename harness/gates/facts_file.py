"""A stage's facts as a file: what was asked, what was seen, when; enough to judge it again offline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.core.errors import BadInput
from harness.core.text import human_seconds, rfc3339
from harness.job.model import Job

FORMAT = 1
MAX_BYTES = 64 << 20
UNTOLD = "could not look"
"""Name of the one fact of a stage at which nobody could look: the reason, in place of all others."""


@dataclass(frozen=True, slots=True)
class FactsFile:
    """The facts of one look at one stage. ``facts`` is JSON; ``harness.facts`` knows its type by stage."""

    stage: str
    job: Job
    taken_at: float
    seconds: float
    facts: Mapping[str, Any]
    format: int = FORMAT

    def dump(self) -> bytes:
        """The file's bytes, the same for the same facts."""
        # A loss may be NaN or infinite. As pydantic writes what has no type, it would be null: no number, read back.
        told = _ADAPTER.dump_python(replace(self, facts={}), mode="json") | {"facts": self.facts}
        return json.dumps(told, indent=1, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class TakenFacts:
    """A facts file that was just written: evidence beside the log."""

    path: Path
    sha256: str
    facts: FactsFile


_ADAPTER: TypeAdapter[FactsFile] = TypeAdapter(FactsFile)


def read_facts(path: Path) -> FactsFile:
    """The facts in a file; raises BadInput when it is not a facts file of this format."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path}: larger than a facts file can be ({MAX_BYTES} bytes)")
        facts = _ADAPTER.validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read the facts file {path}: {error}") from error
    except ValidationError as error:
        raise BadInput(f"{path}: not a facts file: {error.errors()[0]['msg']}") from error
    if facts.format != FORMAT:
        raise BadInput(f"{path}: facts format {facts.format}, this harness reads {FORMAT}")
    return facts


def name_of(path: str) -> str:
    """Name of a file that the event log names by its path, whichever system wrote it; its folder is the job's own."""
    return PureWindowsPath(PurePosixPath(path).name).name


def digest_of(path: Path) -> str:
    """Digest of a file; empty where there is none: that it cannot be read is said when it is read."""
    return digest(path.read_bytes()) if path.is_file() else ""


def digest(data: bytes) -> str:
    """The SHA-256 under which a facts file is named in the event log."""
    return hashlib.sha256(data).hexdigest()


def recorded(stage: str, how: str, at: float, now: float, looked_at: str = "the world is not looked at") -> str:
    """Sentence about facts that were seen or judged (``how``) earlier: when, and how long ago by this clock."""
    ago = f"{human_seconds(now - at)} ago" if now >= at else f"{human_seconds(at - now)} from now, by this clock"
    return f"recorded facts of stage {stage}, {how} {rfc3339(at)}, {ago}: {looked_at}"
