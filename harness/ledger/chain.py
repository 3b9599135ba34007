"""Log of a job, in order: append-only, each event chained to the one before by its digest. Pure.

A chain shows that an event was changed, left out or put in between. That the newest
events were cut off is seen only beside a head (count and digest) kept elsewhere: the
store keeps one, and a release statement names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import sha256
from itertools import repeat

from harness.core.canonical import Json, digest
from harness.core.ids import JobName, Sha256

GENESIS = Sha256("0" * 64)
"""Previous digest that the first event names."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened. ``seq`` counts from 1 within the job; ``at`` is seconds since the epoch, UTC.

    ``digest`` is the SHA-256 of the canonical JSON of all other fields; ``previous`` is the
    digest of the event before, GENESIS for the first.
    """

    seq: int
    job: JobName
    at: float
    kind: str
    data: Mapping[str, Json]
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event of a log: how many there are, and the digest that all of them led to."""

    seq: int
    digest: str


EMPTY = Head(0, GENESIS)
"""The head of a log in which nothing happened yet."""


def seal(head: Head, job: JobName, at: float, kind: str, data: Mapping[str, Json]) -> Record:
    """The event that follows a head. Raises ValueError when the data is not JSON."""
    moment = float(at)  # 5 and 5.0 have different canonical forms, and stores give back floats
    unsealed = Record(head.seq + 1, job, moment, kind, data, head.digest, "")
    return replace(unsealed, digest=_digest(unsealed))


def head_of(events: Sequence[Record]) -> Head:
    """The head of a log that is whole."""
    return Head(events[-1].seq, events[-1].digest) if events else EMPTY


def problems(events: Sequence[Record], head: Head, stored: Sequence[str] | None = None) -> tuple[str, ...]:
    """Everything that is wrong with a log read in order of ``seq``, each naming its event; empty when it is whole.

    ``stored``: data of each as it stands in the store; the events' own may then be less.
    """
    found: list[str] = []
    last = EMPTY
    for event, text in zip(events, repeat(None) if stored is None else stored, strict=stored is not None):
        if event.seq != last.seq + 1:
            found.append(f"{_span(last.seq + 1, event.seq - 1)} missing")
        elif event.previous != last.digest:
            found.append(f"event {event.seq} ({event.kind}) does not follow event {last.seq}: one of them was replaced")
        if not is_sealed(event, text):
            found.append(f"event {event.seq} ({event.kind}) was changed after it was written")
        last = Head(event.seq, event.digest)
    if last.seq < head.seq:
        found.append(f"{_span(last.seq + 1, head.seq)} missing: the log was cut off")
    elif last.seq > head.seq:
        found.append(f"{_span(head.seq + 1, last.seq)} added behind the log's back")
    elif last.digest != head.digest:
        found.append(f"event {last.seq} is not the one that the log's head names")
    return tuple(found)


def _span(first: int, last: int) -> str:
    return f"event {first}" if first == last else f"events {first}-{last}"


def is_sealed(event: Record, stored: str | None = None) -> bool:
    """True when an event is as it was written, by its own digest; ``stored``: its data as it stands in the store.

    What is stored is spelled canonically: so it need not be spelled anew, which takes most of the time.
    """
    try:
        return _digest(event, stored) == event.digest
    except ValueError:
        return False


def _digest(event: Record, stored: str | None = None) -> str:
    if stored is None:
        return digest({one.name: getattr(event, one.name) for one in fields(event) if one.name != "digest"})
    job, kind, previous = _quoted(event.job), _quoted(event.kind), json.dumps(event.previous)
    told = f'{{"at":{event.at!r},"data":{stored},"job":{job},"kind":{kind},"previous":{previous},"seq":{event.seq}}}'
    return sha256(told.encode()).hexdigest()


@lru_cache(maxsize=1024)
def _quoted(name: str) -> str:
    return json.dumps(name)
