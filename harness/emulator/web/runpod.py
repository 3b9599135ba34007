"""RunPod's REST API v2 in front of the same world: as much of it as the published description says and an adapter asks.

Read from github.com/runpod/docs, api-reference-v2/openapi.json (August 2026), and seen by nobody to be what the live
service does. What is not in it is answered 501 by name, an unknown field or parameter 422. A pod's box runs its own
SSH server: that stands for the one which the start command (``args``) starts, and the command itself is not run.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.emulator.box.layout import layout_of
from harness.emulator.charges import ChargeEntry
from harness.emulator.market import DAY_S, Ask
from harness.emulator.refusal import Refusal
from harness.emulator.rental import RentedInstance
from harness.emulator.request import InstanceRequest
from harness.emulator.web.exchange import body_of, caller_of, json_answer, world_of
from harness.emulator.web.runpod_rows import (
    ACTIONS,
    BOOTING,
    GPU_IDS,
    amounts,
    billed,
    gpu_type,
    moment,
    number_of_pod,
    pod,
    pod_id,
    span,
    volume_id,
    word_of,
)
from harness.emulator.world import World

PREFIXES = ("/v2/", "/graphql")
_STREAM_S = 60.0
_MYSELF = "query{myself{idclientBalance}}"
_TITLES = {400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
           409: "Conflict", 422: "Unprocessable Entity", 429: "Too Many Requests", 501: "Not Implemented"}  # fmt: skip
M = TypeVar("M", bound=BaseModel)
Handler = Callable[[web.Request, World], Awaitable[Any]]


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Gpu(_Sent):
    id: str
    count: Annotated[int, Field(ge=1)] = 1
    minCudaVersion: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = "0.0"  # noqa: N815 - the API's own spelling


class _Persistent(_Sent):
    size: Annotated[int, Field(ge=10)]
    path: str


class _Mounts(_Sent):
    persistent: _Persistent | None = None


class _Create(_Sent):
    name: Annotated[str, Field(min_length=1)]
    image: Annotated[str, Field(min_length=1)]
    gpu: _Gpu
    cloud: Literal["SECURE", "COMMUNITY"] = "SECURE"
    disk: Annotated[int, Field(ge=1)] = 20
    mounts: _Mounts = _Mounts()
    ports: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    args: str = ""
    startSsh: bool = False  # noqa: N815 - the API's own spelling


class _Action(_Sent):
    action: Literal["start", "stop", "restart", "terminate"]


class _Catalogue(_Sent):
    include: Literal["AVAILABILITY"]
    product: Literal["POD"]
    cloud: Literal["SECURE"] = "SECURE"
    count: Annotated[int, Field(ge=1)] = 1
    minCudaVersion: Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")] = "0"  # noqa: N815 - the API's own spelling


class _List(_Sent):
    includeClusterPods: Literal["true", "false"] = "false"  # noqa: N815 - the API's own spelling


class _Log(_Sent):
    source: Literal["container"]
    since: dt.datetime


class _Billing(_Sent):
    bucketSize: Literal["day"] = "day"  # noqa: N815 - the API's own spelling
    startTime: dt.datetime  # noqa: N815 - the API's own spelling
    podId: str | None = None  # noqa: N815 - the API's own spelling


class _Nothing(_Sent):
    pass


def add_routes(app: web.Application) -> None:
    """Serve it beside the other API."""
    for method, path, handler in (
        ("POST", "/graphql", _account),
        ("GET", "/v2/catalog/gpus", _catalogue),
        ("GET", "/v2/pods", _list),
        ("POST", "/v2/pods", _create),
        ("GET", "/v2/pods/{id}", _show),
        ("DELETE", "/v2/pods/{id}", _destroy),
        ("POST", "/v2/pods/{id}/action", _act),
        ("GET", "/v2/pods/{id}/logs", _log),
        ("GET", "/v2/network-volumes", _volumes),
        ("GET", "/v2/billing/pods", _pod_bills),
        ("GET", "/v2/billing/network-volumes", _volume_bills),
    ):
        app.router.add_route(method, path, _answering(handler))


def speaks(request: web.Request) -> bool:
    """True for a request to this API."""
    return request.path.startswith(PREFIXES)


def problem(status: int, detail: str, errors: Iterable[str] = ()) -> web.Response:
    """An error as this API words it (RFC 9457)."""
    told: dict[str, Any] = {"title": _TITLES.get(status, "Error"), "status": status, "detail": detail}
    if listed := list(errors):
        told["errors"] = listed
    return web.Response(body=json.dumps(told).encode(), status=status, content_type="application/problem+json")


def _answering(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        world = world_of(request)
        try:
            caller = caller_of(request)
        except Refusal:
            return problem(401, "invalid bearer token")
        if caller.instance_id is not None or caller.key.permissions:
            return problem(403, "access denied")
        try:
            found = await handler(request, world)
        except ValidationError as error:
            return problem(422, "Request validation failed.", map(_violation, error.errors(include_url=False)))
        except Refusal as refusal:
            said = str(refusal.body.get("msg", ""))
            return problem(402 if refusal.body.get("error") == "insufficient_credit" else refusal.status, said)
        if request.method != "GET":
            world.note(f"{request.method} {request.path}")
        return found if isinstance(found, web.StreamResponse) else json_answer(found)

    return answer


def _violation(error: Mapping[str, Any]) -> str:
    where = ".".join(("$", *map(str, error["loc"][:-1])))
    if error["type"] == "extra_forbidden":
        return f"{where}: additional properties '{error['loc'][-1]}' not allowed"
    return f"{where}.{error['loc'][-1]}: {error['msg']}"


async def _body(request: web.Request, model: type[M]) -> M:
    return model.model_validate(await body_of(request))


def _query(request: web.Request, model: type[M]) -> M:
    return model.model_validate(dict(request.query))


async def _account(request: web.Request, world: World) -> Any:
    asked = "".join(str((await body_of(request)).get("query", "")).split())
    if asked != _MYSELF:
        raise Refusal(501, "not_implemented", f"the GraphQL query {asked[:80]} is not emulated")
    about = {"id": f"user_{world.scenario.account.user_id}", "clientBalance": world.credit()}
    return {"data": {"myself": about}}


async def _catalogue(request: web.Request, world: World) -> Any:
    asked = _query(request, _Catalogue)
    world.settle()
    kinds: dict[str, list[Ask]] = defaultdict(list)
    for ask in world.state.asks.values():
        if ask.verified and ask.gpu_name in GPU_IDS:
            kinds[ask.gpu_name].append(ask)
    return {"gpus": [gpu_type(name, asks, asked.count, asked.minCudaVersion) for name, asks in kinds.items()]}


async def _create(request: web.Request, world: World) -> Any:
    asked = await _body(request, _Create)
    with world.lock:
        world.settle()
        fits = [
            one
            for one in world.state.asks.values()
            if GPU_IDS.get(one.gpu_name) == asked.gpu.id
            and one.num_gpus == asked.gpu.count
            and one.cuda_max_good >= float(asked.gpu.minCudaVersion)
            and one.verified
            and not one.rented
        ]
        if not fits or asked.cloud != "SECURE":
            raise Refusal(400, "capacity", "There are no longer any instances available with the requested GPU.")
        mounted = asked.mounts.persistent
        wanted = InstanceRequest(
            image=asked.image, disk=float(mounted.size if mounted else asked.disk), label=asked.name, env=asked.env
        )
        rented = world.create(min(fits, key=lambda one: one.dph_base).id, wanted)
        for key in asked.env.get("PUBLIC_KEY", "").splitlines():
            world.attach_key(rented.id, key)
        return json_answer(pod(world.rental(rented.id), world.clock.now()), 201)


async def _list(request: web.Request, world: World) -> Any:
    _query(request, _List)
    return {"pods": [pod(one, world.clock.now()) for one in world.visible()]}


async def _show(request: web.Request, world: World) -> Any:
    return pod(_named(request, world), world.clock.now())


async def _destroy(request: web.Request, world: World) -> Any:
    world.destroy(_named(request, world).id)
    return web.Response(status=204)


async def _act(request: web.Request, world: World) -> Any:
    rental, action = _named(request, world), (await _body(request, _Action)).action
    word = word_of(rental)
    if action not in ACTIONS.get(word, BOOTING):
        raise Refusal(409, "conflict", f"{action} is not valid for a pod that is {word}")
    if action == "terminate":
        world.destroy(rental.id)
        return web.Response(status=204)
    {"start": world.start, "stop": world.stop, "restart": world.restart_container}[action](rental.id)
    return pod(world.rental(rental.id), world.clock.now())


async def _log(request: web.Request, world: World) -> Any:
    """Lines that were printed since then, and then silence: the stream stays open, as the service's does."""
    rental, asked = _named(request, world), _query(request, _Log)
    ts = max(asked.since, moment(rental.created_at)).isoformat()
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    stream.enable_chunked_encoding()
    await stream.prepare(request)
    log = layout_of(world.state_dir, rental.id).log
    for line in log.read_text("utf-8", "replace").splitlines() if log.exists() else ():
        data = json.dumps({"ts": ts, "source": "container", "line": line})
        await stream.write(f"id: {ts}\ndata: {data}\n\n".encode())
    for _ in range(int(_STREAM_S / 0.1)):
        if request.transport is None or request.transport.is_closing():
            break
        await asyncio.sleep(0.1)
    return stream


async def _volumes(request: web.Request, world: World) -> Any:
    _query(request, _Nothing)
    world.settle()
    listed = world.state.volumes.values()
    return {
        "networkVolumes": [
            {
                "id": f"v{one.id:x}",
                "name": one.name,
                "size": int(one.size_gb),
                "dataCenter": "EU-SE-1",
                "type": "STANDARD",
            }
            for one in listed
        ]
    }


async def _pod_bills(request: web.Request, world: World) -> Any:
    asked = _query(request, _Billing)
    records = [
        {**span(day), "podId": pod_id(number), **amounts(entries)}
        for (number, day), entries in _by_day(world, asked, "instance").items()
        if asked.podId in {None, pod_id(number)}
    ]
    return billed(asked.model_dump(mode="json"), records, "uniquePodCount", "podId")


async def _volume_bills(request: web.Request, world: World) -> Any:
    asked = _query(request, _Billing)
    records = []
    for (number, day), entries in _by_day(world, asked, "volume").items():
        usd = sum(one.usd for one in entries)
        amounts = {"totalAmount": usd, "standardAmount": usd, "highPerformanceAmount": 0}
        records.append({**span(day), "networkVolumeId": volume_id(number), **amounts})
    return billed(asked.model_dump(mode="json"), records, "uniqueNetworkVolumeCount", "networkVolumeId")


def _by_day(world: World, asked: _Billing, contract: str) -> dict[tuple[int, float], list[ChargeEntry]]:
    """Hours that were charged, by contract and day; traffic costs nothing at RunPod."""
    world.settle()
    found: dict[tuple[int, float], list[ChargeEntry]] = defaultdict(list)
    for one in world.state.charges.entries:
        if one.contract == contract and one.kind not in {"bwd", "bwu"} and one.end >= asked.startTime.timestamp():
            found[one.instance_id, one.start // DAY_S * DAY_S].append(one)
    return found


def _named(request: web.Request, world: World) -> RentedInstance:
    wanted = number_of_pod(request.match_info["id"])
    rental = next((one for one in world.visible() if one.id == wanted), None)
    if rental is None:
        raise Refusal(404, "not_found", "pod not found")
    return rental
