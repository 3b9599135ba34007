"""GOLD_STANDARD.json: the report for machines, versioned, and back again. Pure."""

from __future__ import annotations

import json

from pydantic import TypeAdapter, ValidationError

from harness.core.errors import BadInput
from harness.core.text import printable
from harness.report.model import FORMAT, Report

MAX_BYTES = 64 << 20
_REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def dump(report: Report) -> bytes:
    """ASCII JSON; equal reports have equal bytes."""
    return json.dumps(_REPORT.dump_python(report, mode="json"), indent=1, sort_keys=True, allow_nan=False).encode()


def load(data: bytes) -> Report:
    """The report in its JSON; raises BadInput for what is none, and for another version of the format."""
    if len(data) > MAX_BYTES:
        raise BadInput(f"larger than a report can be ({MAX_BYTES} bytes)")
    try:
        told = json.loads(data)
        if isinstance(told, dict) and told.get("format") != FORMAT:
            raise BadInput(f"report format {told.get('format')!r:.40}, this harness reads {FORMAT}")
        return _REPORT.validate_python(told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"not a report: {printable(where, 200)}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not a report: {printable(str(error), 300)}") from error
