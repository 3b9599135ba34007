"""The names of things, as types; and the one place where randomness enters."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import NewType

JobName = NewType("JobName", str)
"""A job's name: lower-case letters, digits, '.', '_' and '-'; names its directory and its label."""

InstanceId = NewType("InstanceId", object)
"""A provider's own name for an instance: a whole number, or a text. It is compared and shown, never reckoned with."""

OfferId = NewType("OfferId", int)
VolumeId = NewType("VolumeId", int)
CheckId = NewType("CheckId", str)
"""A check's name: its function's name without the prefix ``check_``."""

Sha256 = NewType("Sha256", str)
"""64 lower-case hexadecimal digits."""

LABEL_PREFIX = "gsh"
"""Every instance rented by this tool carries a label ``gsh-<job>-<nonce>``."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_JOB_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEXT_ID = re.compile(r"(?!0*$)[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_NUMBER_ID = re.compile(r"[1-9][0-9]{0,14}")


def sha256(text: str) -> Sha256:
    """Parse a SHA-256 digest; raises ValueError on anything but 64 hexadecimal digits."""
    lowered = text.strip().lower()
    if not _SHA256.fullmatch(lowered):
        raise ValueError(f"not a SHA-256 digest: {text[:80]!r}")
    return Sha256(lowered)


def instance_id(text: str) -> InstanceId:
    """An instance's id as it is typed or sent: a number where it is written as one, else the text itself.

    Raises ValueError on what is no id.
    """
    if not _TEXT_ID.fullmatch(text):
        raise ValueError(f"not an instance's id: {text[:80]!r} (up to 128 of letters, digits, _ and -)")
    return InstanceId(int(text) if _NUMBER_ID.fullmatch(text) else text)


def plain(known: object) -> int | str:
    """A provider's id as JSON holds it."""
    return known if isinstance(known, int | str) else str(known)


def number_of(text: str) -> int:
    """Number for an id that is a text, where only numbers name such things: 48 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") or 1


def job_name(text: str) -> JobName:
    """Parse a job's name; raises ValueError on a name that could not be a directory and a label."""
    if not _JOB_NAME.fullmatch(text):
        raise ValueError(f"not a job name: {text[:80]!r} (up to 64 of a-z 0-9 . _ -, starting with a letter or digit)")
    return JobName(text)


def new_nonce() -> str:
    """Eight random hexadecimal digits, to tell one attempt from another."""
    return secrets.token_hex(4)


def new_secret() -> str:
    """64 random hexadecimal digits: a key that nobody guesses."""
    return secrets.token_hex(32)


def label(job: JobName, nonce: str) -> str:
    """The instance label of one attempt of a job: at most 78 characters."""
    return f"{LABEL_PREFIX}-{job}-{nonce}"


def is_label_of(text: str | None, job: str) -> bool:
    """True for a label that this tool gave to an attempt of this very job."""
    return re.fullmatch(f"{LABEL_PREFIX}-{re.escape(job)}-[0-9a-f]{{8}}", text or "") is not None


def may_be_label_of(text: str | None, job: str) -> bool:
    """True for such a label, and for one that a service has cut short at its end or spelt with the signs it allows."""
    shown, whole = _plain(text or ""), _plain(label(JobName(job), ""))
    kept_part_of_the_job = is_our_label(shown) and whole.startswith(shown)
    return kept_part_of_the_job or re.fullmatch(f"{re.escape(whole)}[0-9a-f]{{1,8}}", shown) is not None


def job_in_label(text: str | None) -> JobName | None:
    """The job that a whole label of this tool names; None for any other label."""
    told = re.fullmatch(f"{LABEL_PREFIX}-({_JOB_NAME.pattern})-[0-9a-f]{{8}}", text or "")
    return JobName(told[1]) if told else None


def _plain(text: str) -> str:
    """A label as the strictest service would spell it: lower-case letters, digits, and '-' for the rest."""
    return re.sub(r"[^a-z0-9]", "-", text.strip().lower())


def is_our_label(text: str | None) -> bool:
    """True for a label that this tool gave."""
    return bool(text) and str(text).startswith(f"{LABEL_PREFIX}-")
