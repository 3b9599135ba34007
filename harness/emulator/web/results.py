"""Logs and commands: asked for in one request, fetched from a result URL that is empty at first."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from aiohttp import web

from harness.emulator.box.layout import Layout
from harness.emulator.refusal import Refusal, invalid
from harness.emulator.web.asking import Answer, body_of, caller_of, id_of, world_of
from harness.emulator.world import World

MAX_LOG = 1 << 20
"""Bytes of a log that are served, its end."""


@dataclass(frozen=True, slots=True)
class Result:
    """Something that will lie under a result URL from a certain time on."""

    text: str
    ready_at: float


RESULTS: web.AppKey[dict[str, Result]] = web.AppKey("results", dict)


async def request_logs(request: web.Request) -> Answer:
    """PUT /instances/request_logs/{id}/."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    asked = await body_of(request)
    world.rental(instance_id, caller)
    text = "" if asked.get("daemon_logs") else _tail(Layout(world.state_dir / "boxes" / str(instance_id)))
    if asked.get("filter"):
        text = "".join(line for line in text.splitlines(keepends=True) if str(asked["filter"]) in line)
    if asked.get("tail"):
        if not str(asked["tail"]).isdecimal():
            raise invalid("tail must be a number")
        text = "".join(text.splitlines(keepends=True)[-int(asked["tail"]) or None :])
    return {"success": True, "result_url": _leave(request, world, text), "msg": ""}


async def command(request: web.Request) -> Answer:
    """PUT /instances/command/{id}/: ls, rm or du, on a stopped instance too."""
    caller, world, instance_id = caller_of(request), world_of(request), id_of(request)
    asked = await body_of(request)
    rental = world.rental(instance_id, caller)
    from harness.emulator.web.command import run  # noqa: PLC0415

    text = run(Layout(world.state_dir / "boxes" / str(rental.id)), asked.get("command"))
    return {"success": True, "writeable_path": "/workspace", "result_url": _leave(request, world, text), "msg": ""}


async def result(request: web.Request) -> web.Response:
    """GET the result: 404 until it is there. The URL is its own secret, as a signed one."""
    world = world_of(request)
    found = request.app[RESULTS].get(request.match_info["name"])
    if found is None or world.clock.now() < found.ready_at:
        raise Refusal(404, "not_found", "Not there yet.")
    return web.Response(text=found.text, content_type="text/plain")


def _leave(request: web.Request, world: World, text: str) -> str:
    import secrets

    results = request.app[RESULTS]
    name = secrets.token_hex(16)
    results[name] = Result(text, world.clock.now() + world.timing.log_s)
    while len(results) > 200:
        del results[next(iter(results))]
    return f"{request.scheme}://{request.host}/results/{name}"


def _tail(layout: Layout) -> str:
    try:
        with layout.log.open("rb") as file:
            file.seek(max(0, layout.log.stat().st_size - MAX_LOG))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


_ = (re, shlex)
