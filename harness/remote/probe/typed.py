"""From a stranger's JSON to a value of a type: what does not fit was not seen."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from harness.core.canonical import Json
from harness.core.observed import Observed, seen, unseen
from harness.core.text import misfits, printable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


def typed(value: Json, kind: type[T]) -> Observed[T]:
    """A parsed JSON value as a ``kind``, nothing of it converted; anything else is a problem, said in one line."""
    from pydantic import ValidationError  # noqa: PLC0415 - slow to load
    from pydantic_core import to_json  # noqa: PLC0415 - as above

    try:
        # As JSON once more: only there may a strict reading take an array for a tuple.
        return seen(_adapter(kind).validate_json(to_json(value), strict=True))  # type: ignore[arg-type]  # types have hashes
    except ValidationError as error:
        return unseen(printable(f"the answer does not fit: {misfits(error)[0]}", 500))
    except ValueError as error:  # text that is no Unicode, or nested too deeply
        return unseen(printable(f"the answer does not read: {error}", 500))


@cache  # making one takes longer than all that it reads
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - slow to load

    return TypeAdapter(kind)
