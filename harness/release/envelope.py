"""A statement with signatures: a DSSE envelope (https://github.com/secure-systems-lab/dsse/blob/master/envelope.md).

Pure, but for reading the file. A statement without one is read as an envelope that nobody has signed.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.core.errors import BadInput
from harness.core.text import printable
from harness.release.statement import MAX_BYTES, no_twins, read_bytes

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""Type of a payload that is an in-toto statement, as in-toto's own specification names it."""

_MAX_BYTES: Final = 2 * MAX_BYTES  # base64 adds a third, and each signature some hundred bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature. ``keyid`` is the name of the key that it claims to be by: nothing vouches for that."""

    keyid: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and who signed it."""

    payload: bytes
    signatures: tuple[Signature, ...] = ()

    @property
    def signed(self) -> bytes:
        """Bytes that are signed: the payload with its type, so that it cannot be taken for anything else."""
        kind = PAYLOAD_TYPE.encode()
        return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(self.payload), self.payload)


def to_json(envelope: Envelope) -> bytes:
    """The envelope as it is written into a file."""
    signatures = [{"keyid": one.keyid, "sig": _base64(one.data)} for one in envelope.signatures]
    told = {"payload": _base64(envelope.payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    return json.dumps(told, indent=1).encode() + b"\n"


def read(path: Path) -> Envelope:
    """The envelope in a file, or the statement in it as one that nobody has signed; raises BadInput."""
    data = read_bytes(path, _MAX_BYTES)
    if len(data) > _MAX_BYTES:
        raise BadInput(f"{path} is larger than a signed release can be ({_MAX_BYTES} bytes)")
    try:
        told = json.loads(data, object_pairs_hook=no_twins)
        return _envelope(told) if isinstance(told, dict) and "payload" in told else Envelope(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a release: {printable(str(error), 300)}") from error


def _envelope(told: dict[str, Any]) -> Envelope:
    """The envelope that a JSON value is; unknown fields are passed over, as DSSE demands: nothing vouches for them."""
    if told.get("payloadType") != PAYLOAD_TYPE:
        raise ValueError(f"payloadType: not {PAYLOAD_TYPE}")
    signatures = told.get("signatures")
    if not isinstance(signatures, list) or not all(isinstance(one, dict) for one in signatures):
        raise ValueError("signatures: not a list of objects")
    found = tuple(Signature(str(one.get("keyid", "")), _bytes(one.get("sig"), "sig")) for one in signatures)
    return Envelope(_bytes(told["payload"], "payload"), found)


def _bytes(text: object, field: str) -> bytes:
    """Bytes of a field in base64, of either alphabet; raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{field}: missing, or not a text")  # noqa: TRY004 - one error for all that is not read
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError as error:
        raise ValueError(f"{field}: not base64") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
