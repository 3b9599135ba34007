"""Facts: one module a stage; what was asked, what came back, typed. One look, many checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.errors import BadInput
from harness.facts.desk import Desk
from harness.facts.file import FactsFile
from harness.lifecycle import Stage


def look(stage: Stage, desk: Desk) -> dict[str, Any]:
    """Take all facts of a stage, once, as JSON; what could not be looked at says so in its place."""
    taken: Callable[[Desk], object] = import_module(f"harness.facts.{stage}").look
    facts: dict[str, Any] = adapter(stage).dump_python(taken(desk), mode="json")
    return facts


def typed(file: FactsFile) -> object:
    """A facts file's facts as the stage's own dataclass; raises BadInput when they do not fit."""
    try:
        return adapter(Stage(file.stage)).validate_python(file.facts)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"the recorded facts of stage {file.stage} do not fit: {where}: {first['msg']}") from error


@cache  # making one takes longer than all that it reads
def adapter(stage: Stage) -> TypeAdapter[Any]:
    """Reads and writes a stage's facts: ``PreflightFacts`` in ``harness.facts.preflight``, and so on."""
    return TypeAdapter(getattr(import_module(f"harness.facts.{stage}"), f"{stage.capitalize()}Facts"))
