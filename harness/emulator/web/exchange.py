"""One HTTP exchange: who asks, what was sent, and the JSON that answers.

A handler is a function of the world. Its first parameters say who may call it: ``world`` the account,
``world, rental`` the key of that instance too; ``request`` alone leaves it to the handler. ``body`` is the JSON object
that was sent. Its keyword-only parameters are a pydantic model of what is read from body, query and path.
A key of the account with permissions also needs the right to the route's endpoint.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, create_model
from pydantic_core import from_json

from harness.emulator.permissions import Category, endpoint_name
from harness.emulator.refusal import Refusal, invalid
from harness.emulator.request import Request
from harness.emulator.world import Caller, World

WORLD: web.AppKey[World] = web.AppKey("world", World)
MAX_BODY = 1 << 20

Answer = dict[str, Any]
Handler = Callable[..., Awaitable[Any]]

FIRST_PAGE = "after-0"
Token = Annotated[str, Field(pattern=r"^after-[0-9]{1,18}$")]
"""Place in a listing from which a page begins."""


def answering(handler: Handler, category: Category | None) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The route's function around a handler; one that returns nothing is answered with success.

    ``category``: of permissions, to which the route belongs; None is open to everybody.
    """
    parameters = inspect.signature(handler, eval_str=True).parameters
    fields = {
        name: (one.annotation, ... if one.default is one.empty else one.default)
        for name, one in parameters.items()
        if one.kind is one.KEYWORD_ONLY
    }
    sent_model = create_model(handler.__name__, __base__=Request, **fields)  # type: ignore[call-overload]  # by name
    read = {one.alias or name for name, one in sent_model.model_fields.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        world, reads = world_of(request), request.method == "GET"
        given: dict[str, Any] = {"request": request, "world": world}
        if category is not None:
            caller = given["caller"] = caller_of(request)
        given["body"] = {} if reads else await body_of(request)
        sent = {**given["body"], **request.query, **request.match_info}
        if category is not None:
            endpoint = endpoint_name(category, handler.__name__)
            # What the handler does not read constrains nothing: an "id" beside a list of others would.
            heard = sent.keys() if "body" in parameters else sent.keys() & (read | request.match_info.keys())
            if not caller.key.may(category, endpoint, {name: sent[name] for name in heard}):
                raise Refusal(403, "auth_error", f"This key lacks the permission {category} ({endpoint}).")
            if "rental" in parameters:
                given["rental"] = world.rental(int(request.match_info["id"]), caller)
            elif "world" in parameters and caller.instance_id is not None:
                raise Refusal(403, "auth_error", "This key may act on its own instance only.")
        model = sent_model.read(sent, "invalid_request" if reads else "invalid_args")
        known = {name: given[name] for name in parameters if name not in fields}
        found = await handler(**known, **{name: getattr(model, name) for name in fields})
        if not reads:
            world.note(f"{request.method} {request.path}")
        if isinstance(found, web.StreamResponse):
            return found
        return json_answer({"success": True} if found is None else found)

    return answer


def page_of(rows: Sequence[Any], limit: int, after_token: str, *, most: int) -> tuple[list[Any], str | None]:
    """Page of ``limit`` rows, ``most`` at most, from where the token says; and the token of the next page."""
    start, length = int(after_token.removeprefix("after-")), max(1, min(limit, most))
    more = start + length < len(rows)
    return list(rows[start : start + length]), f"after-{start + length}" if more else None


def world_of(request: web.Request) -> World:
    """The world behind this server."""
    return request.app[WORLD]


def caller_of(request: web.Request) -> Caller:
    """The caller by the request's key, a Bearer token or the query's ``api_key``. Refuses as the service does."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    key = token.strip() if scheme == "Bearer" else request.query.get("api_key")
    return world_of(request).caller(key)


async def body_of(request: web.Request) -> Answer:
    """The JSON object that was sent, an empty one for no body; readable by others too: no NaN, no NUL."""
    raw = await request.content.read(MAX_BODY + 1)
    while raw and len(raw) <= MAX_BODY and (more := await request.content.read(MAX_BODY + 1 - len(raw))):
        raw += more
    if not raw:
        return {}
    if len(raw) > MAX_BODY:
        raise invalid("the body is too large")
    if request.content_type != "application/json":
        raise invalid("Content-Type must be application/json")
    if b"\\u0000" in raw:
        raise invalid("the body is not JSON: a text holds a NUL")
    try:
        data = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise invalid("the body must be a JSON object")
    return data


def json_answer(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON, with a Content-Type of exactly ``application/json``: the official client compares the whole header."""
    body = json.dumps(data).encode()
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
