"""Refusals of the API: a status and a JSON body."""

from __future__ import annotations

from collections.abc import Mapping

from harness.core.ports import Json


class Refusal(Exception):
    """An answer that is not a success. ``body`` is sent as JSON with HTTP ``status``."""

    def __init__(self, status: int, error: str, message: str, **more: Json) -> None:
        super().__init__(f"{status} {error}: {message}")
        self.status = status
        self.body: Mapping[str, Json] = {"success": False, "error": error, "msg": message, **more}


def no_such_instance(*instance_ids: int) -> Refusal:
    """404: the ids are nobody's, or not yours."""
    return Refusal(404, "no_such_instance", f"Instance {', '.join(map(str, instance_ids))} not found.")


def invalid(message: str) -> Refusal:
    """400: an argument cannot be used."""
    return Refusal(400, "invalid_args", message)


def not_emulated(what: str) -> Refusal:
    """501: the service knows it, the emulator does not; never the 404 that means "gone"."""
    return Refusal(501, "not_implemented", f"{what} is not emulated.")
