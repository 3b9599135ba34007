"""Reading a request: its body, its query, its caller. What cannot be read is refused with 400."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from harness.emulator.refusal import Refusal, invalid
from harness.emulator.world import Caller, World

WORLD: web.AppKey[World] = web.AppKey("world", World)
MAX_BODY = 1 << 20

Answer = dict[str, Any]


def world_of(request: web.Request) -> World:
    """The world behind this server."""
    return request.app[WORLD]


def caller_of(request: web.Request) -> Caller:
    """Who asks: the key is a Bearer token or the query's ``api_key``. Refuses as the service does."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    key = token.strip() if scheme == "Bearer" else request.query.get("api_key")
    return world_of(request).caller(key)


def owner_of(request: web.Request) -> World:
    """The world, for a caller who may touch the whole account; an instance's own key may not."""
    if caller_of(request).instance_id is not None:
        raise Refusal(403, "auth_error", "This key may act on its own instance only.")
    return world_of(request)


def id_of(request: web.Request, name: str = "id") -> int:
    """The number in the path."""
    return int(request.match_info[name])


async def body_of(request: web.Request) -> Mapping[str, Any]:
    """The JSON object that was sent; none sent is an empty one."""
    raw = await request.content.read(MAX_BODY + 1)
    while raw and len(raw) <= MAX_BODY and (more := await request.content.read(MAX_BODY + 1 - len(raw))):
        raw += more
    if not raw:
        return {}
    if len(raw) > MAX_BODY:
        raise invalid("the body is too large")
    if request.content_type != "application/json":
        raise invalid("Content-Type must be application/json")
    try:
        data = _plain(raw)
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise invalid("the body must be a JSON object")
    return data


def query_json(request: web.Request, name: str, default: Any) -> Any:
    """A query argument that is JSON."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        return _plain(text)
    except ValueError as error:
        raise Refusal(400, "invalid_request", f"{name} is not JSON: {error}") from None


def _plain(text: bytes | str) -> Any:
    """JSON as others can read it too: no NaN, no NUL, no half characters, not nested without end; raises ValueError."""
    try:
        data = json.loads(text, parse_constant=_no_number)
        shown = json.dumps(data, ensure_ascii=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    shown.encode()
    if "\\u0000" in shown:
        raise ValueError("a text holds a NUL")
    return data


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def page_of(request: web.Request, *, default: int, most: int) -> tuple[int, int]:
    """Where the asked page starts and how long it is."""
    try:
        limit = int(request.query.get("limit", default))
    except ValueError:
        raise Refusal(400, "invalid_request", "limit is not a number") from None
    token = request.query.get("after_token")
    if token is None:
        return 0, max(1, min(limit, most))
    if not token.startswith("after-") or not token[6:].isdecimal():
        raise Refusal(400, "invalid_token", "after_token is not one of ours")
    return int(token[6:]), max(1, min(limit, most))


def next_token(start: int, length: int, total: int) -> str | None:
    """The token of the page after this one."""
    return f"after-{start + length}" if start + length < total else None


def json_answer(data: Any, status: int = 200) -> web.Response:
    """JSON, with a Content-Type of exactly ``application/json``: the official client compares the whole header."""
    return web.Response(body=json.dumps(data).encode(), status=status, content_type="application/json")
