"""Logs and commands: asked for in one request, fetched from a result URL that is empty at first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from pydantic import Field

from harness.core.ids import new_secret
from harness.emulator.box.commands import run
from harness.emulator.box.layout import Layout, layout_of
from harness.emulator.refusal import Refusal
from harness.emulator.rental import RentedInstance
from harness.emulator.web.exchange import Answer, world_of
from harness.emulator.world import World

MAX_LOG = 1 << 20
"""Bytes of a log that are served, its end."""

MAX_RESULTS = 200


@dataclass(frozen=True, slots=True)
class Result:
    """Something that lies under a result URL from a certain time on."""

    text: str
    ready_at: float


RESULTS: web.AppKey[dict[str, Result]] = web.AppKey("results", dict)


async def request_logs(
    request: web.Request,
    world: World,
    rental: RentedInstance,
    *,
    daemon_logs: bool = False,
    holding: Annotated[str, Field(alias="filter")] = "",
    tail: Annotated[int, Field(ge=0)] = 0,
) -> Answer:
    """PUT /instances/request_logs/{id}/: the container's log, its end, or the lines that hold a text."""
    log = "" if daemon_logs else _log(layout_of(world.state_dir, rental.id))
    lines = [line for line in log.splitlines(keepends=True) if holding in line]
    return {"success": True, "result_url": _leave(request, world, "".join(lines[-tail:])), "msg": ""}


async def command(request: web.Request, world: World, rental: RentedInstance, *, command: str) -> Answer:
    """PUT /instances/command/{id}/: ls, rm or du on the instance's disk, on a stopped one too."""
    text = await asyncio.to_thread(run, layout_of(world.state_dir, rental.id), command)
    return {"success": True, "writeable_path": "/workspace", "result_url": _leave(request, world, text), "msg": ""}


async def result(request: web.Request) -> web.Response:
    """GET the result: 404 until it is there. Like a signed URL it needs no key."""
    found = request.app[RESULTS].get(request.match_info["name"])
    if found is None or world_of(request).clock.now() < found.ready_at:
        raise Refusal(404, "not_found", "Not there yet.")
    return web.Response(text=found.text, content_type="text/plain")


def _leave(request: web.Request, world: World, text: str) -> str:
    results = request.app[RESULTS]
    name = new_secret()
    results[name] = Result(text, world.clock.now() + world.timing.log_s)
    while len(results) > MAX_RESULTS:
        del results[next(iter(results))]
    return f"{request.scheme}://{request.host}/results/{name}"


def _log(layout: Layout) -> str:
    try:
        with layout.log.open("rb") as file:
            file.seek(max(0, layout.log.stat().st_size - MAX_LOG))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
