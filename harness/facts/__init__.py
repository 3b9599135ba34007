"""Facts: one module a stage; what was asked, what came back, typed. One look, many checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from harness.context import JobContext
from harness.core.errors import BadInput
from harness.core.lifecycle import Stage
from harness.core.observed import Observed, unseen
from harness.core.text import misfits, printable
from harness.gates.facts_file import FactsFile


def look(stage: Stage, context: JobContext) -> dict[str, Any]:
    """Take all facts of a stage, once, as JSON; what could not be looked at says so in its place."""
    taken: Callable[[JobContext], object] = import_module(f"harness.facts.{stage}").look
    return recordable(stage, taken(context))


def recordable(stage: Stage, taken: object) -> dict[str, Any]:
    """Facts as JSON from which they can be read again: an observation of which that is not true becomes a problem."""
    return {name: _recordable(getattr(taken, name), field) for name, field in _fields(stage).items()}


def _recordable(value: object, field: TypeAdapter[Any]) -> Any:
    try:
        told = field.dump_python(value, mode="json")
        field.validate_python(from_json(json.dumps(told)))
    except (ValueError, TypeError, RecursionError) as error:
        if not isinstance(value, Observed):
            raise
        return field.dump_python(unseen(printable(f"what was seen cannot be written down: {error}", 500)), mode="json")
    return told


def typed(file: FactsFile) -> object:
    """A facts file's facts as the stage's own dataclass; raises BadInput when they do not fit."""
    try:
        return adapter(Stage(file.stage)).validate_python(file.facts)
    except ValidationError as error:
        raise BadInput(f"the recorded facts of stage {file.stage} do not fit: {misfits(error)[0]}") from error


@cache
def _fields(stage: Stage) -> dict[str, TypeAdapter[Any]]:
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(_kind(stage)).items()}


@cache  # making one takes longer than all that it reads
def adapter(stage: Stage) -> TypeAdapter[Any]:
    """Reads and writes a stage's facts: ``PreflightFacts`` in ``harness.facts.preflight``, and so on."""
    return TypeAdapter(_kind(stage))


def _kind(stage: Stage) -> Any:
    return getattr(import_module(f"harness.facts.{stage}"), f"{stage.capitalize()}Facts")
