"""The HTTP server: every route with and without its trailing slash, and the faults in between."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web
from aiohttp.typedefs import Handler as Next

from harness.emulator.conditions import holds_for_any
from harness.emulator.editing import edited
from harness.emulator.permissions import Category
from harness.emulator.refusal import Refusal, not_emulated
from harness.emulator.scenario import ApiFault
from harness.emulator.web import account, apikeys, increases, instances, results, runpod, storage, templates
from harness.emulator.web.exchange import MAX_BODY, WORLD, Handler, answering, json_answer, world_of
from harness.emulator.web.pacing import Pacing
from harness.emulator.world import World

HANG_S = 600.0
"""How long a hanging answer is held back at most, in real seconds."""

PACING: web.AppKey[Pacing] = web.AppKey("pacing", Pacing)

ROUTES: tuple[tuple[str, str, Handler, Category | None], ...] = (
    ("GET", "/api/v0/gpu_names/unique", account.gpu_names, None),
    ("GET", "/api/v0/gpu_types", account.gpu_types, None),
    ("GET", "/api/v0/users/current", account.current, "user_read"),
    ("POST", "/api/v0/bundles", account.bundles, "misc"),
    ("PUT", "/api/v0/search/asks", account.search_asks, "misc"),
    ("PUT", r"/api/v0/asks/{id:\d+}", instances.create, "instance_write"),
    ("PUT", "/api/v0/launch_instance", instances.launch, "instance_write"),
    ("GET", "/api/v0/instances", instances.old_list, "instance_read"),
    ("PUT", "/api/v0/instances", instances.change_many, "instance_write"),
    ("DELETE", "/api/v0/instances", instances.destroy_many, "instance_write"),
    ("GET", "/api/v1/instances", instances.listing, "instance_read"),
    ("GET", "/api/v0/instances/filters", instances.filters, "instance_read"),
    ("GET", r"/api/v0/instances/{id:\d+}", instances.show, "instance_read"),
    ("PUT", r"/api/v0/instances/{id:\d+}", instances.change, "instance_write"),
    ("DELETE", r"/api/v0/instances/{id:\d+}", instances.destroy, "instance_write"),
    ("PUT", r"/api/v0/instances/reboot/{id:\d+}", instances.reboot, "instance_write"),
    ("PUT", r"/api/v0/instances/recycle/{id:\d+}", instances.recycle, "instance_write"),
    ("PUT", r"/api/v0/instances/bid_price/{id:\d+}", instances.bid_price, "instance_write"),
    ("GET", r"/api/v0/instances/balance/{id:\d+}", instances.deposit, "instance_read"),
    ("GET", "/api/v0/instance_backups", instances.backups, "instance_read"),
    ("GET", "/api/v0/instances/pending-price-increases", increases.pending, "instance_read"),
    ("PUT", "/api/v0/instances/accept-price-increase", increases.accept, "instance_write"),
    ("PUT", "/api/v0/instances/reject-price-increase", increases.reject, "instance_write"),
    ("POST", r"/api/v0/instances/{id:\d+}/ssh", account.attach, "instance_write"),
    ("GET", r"/api/v0/instances/{id:\d+}/ssh", account.attached, "instance_read"),
    ("DELETE", r"/api/v0/instances/{id:\d+}/ssh/{key:\d+}", account.detach, "instance_write"),
    ("GET", "/api/v0/auth/apikeys", apikeys.show_api_keys, "user_read"),
    ("POST", "/api/v0/auth/apikeys", apikeys.create_api_key, "user_write"),
    ("GET", r"/api/v0/auth/apikeys/{id:\d+}", apikeys.show_api_key, "user_read"),
    ("DELETE", r"/api/v0/auth/apikeys/{id:\d+}", apikeys.delete_api_key, "user_write"),
    ("PUT", "/api/v0/commands/reset_apikey", apikeys.reset_api_key, "user_write"),
    ("GET", "/api/v0/secrets", templates.show_env_vars, "user_read"),
    ("POST", "/api/v0/secrets", templates.create_env_var, "user_write"),
    ("PUT", "/api/v0/secrets", templates.update_env_var, "user_write"),
    ("DELETE", "/api/v0/secrets", templates.delete_env_var, "user_write"),
    ("GET", "/api/v0/template", templates.search_templates, "user_read"),
    ("POST", "/api/v0/template", templates.create_template, "user_write"),
    ("PUT", "/api/v0/template", templates.update_template, "user_write"),
    ("PUT", "/api/v1/template", templates.update_template, "user_write"),
    ("DELETE", "/api/v0/template", templates.delete_template, "user_write"),
    ("POST", "/api/v0/ssh", account.add_key, "user_write"),
    ("GET", "/api/v0/ssh", account.keys, "user_read"),
    ("DELETE", r"/api/v0/ssh/{id:\d+}", account.drop_key, "user_write"),
    ("PUT", r"/api/v0/instances/request_logs/{id:\d+}", results.request_logs, "instance_read"),
    ("PUT", r"/api/v0/instances/command/{id:\d+}", results.command, "instance_write"),
    ("GET", "/results/{name}", results.result, None),
    ("GET", "/api/v0/volumes", storage.volumes, "instance_read"),
    ("POST", "/api/v0/volumes/search", account.search_volumes, "misc"),
    ("PUT", "/api/v0/volumes", storage.create_volume, "instance_write"),
    ("DELETE", "/api/v0/volumes", storage.delete_volume, "instance_write"),
    ("PUT", "/api/v0/commands/rsync", storage.copy, "instance_write"),
    ("PUT", "/api/v0/commands/copy_direct", storage.copy, "instance_write"),
    ("GET", "/api/v0/charges", account.charges, "billing_read"),
    ("GET", "/api/v1/invoices", account.invoices, "billing_read"),
    ("GET", "/api/v0/audit_logs", account.audit_logs, "user_read"),
)


def build(world: World) -> web.Application:
    """The application in front of a world."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_spoil, _pace, _refuse])
    app[WORLD] = world
    app[results.RESULTS] = {}
    app[PACING] = Pacing()
    for method, path, handler, category in ROUTES:
        for form in (path, path + "/"):
            app.router.add_route(method, form, answering(handler, category))
    runpod.add_routes(app)
    return app


@web.middleware
async def _refuse(request: web.Request, handler: Next) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return json_answer(dict(refusal.body), status=refusal.status)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        unknown = not_emulated(f"{request.method} {request.path}")
        if runpod.speaks(request):
            return runpod.problem(unknown.status, f"{request.method} {request.path} is not emulated")
        return json_answer(dict(unknown.body), status=unknown.status)


@web.middleware
async def _pace(request: web.Request, handler: Next) -> web.StreamResponse:
    world = world_of(request)
    key = request.headers.get("Authorization", "")
    if world.scenario.rate_limits and request.app[PACING].too_soon(
        key, request.method, request.path, world.clock.now()
    ):
        return web.Response(status=429, text="API requests too frequent: endpoint threshold exceeded")
    return await handler(request)


@web.middleware
async def _spoil(request: web.Request, handler: Next) -> web.StreamResponse:
    """Let the scenario's fault have this request, or pass it on."""
    world = world_of(request)
    fault = world.faults.api(request.method, request.path, lambda when: holds_for_any(world, when))
    if fault is None:
        return await handler(request)
    if fault.commit or fault.do in {"edit", "truncate"}:
        return await _spoiled(request, fault, await handler(request))
    return await _spoiled(request, fault, web.Response())


async def _spoiled(request: web.Request, fault: ApiFault, response: web.StreamResponse) -> web.StreamResponse:
    if fault.do == "reply":
        return web.Response(
            status=fault.status, text=fault.body, content_type=fault.content_type, headers=fault.headers
        )
    if fault.do == "edit" and isinstance(response, web.Response):
        data = json.loads(response.body or b"{}")  # type: ignore[arg-type]  # json_response's body is bytes
        return json_answer(edited(data, fault), status=response.status, headers=fault.headers)
    if fault.do == "hang":
        await asyncio.sleep(HANG_S)
    if fault.do == "truncate" and isinstance(response, web.Response):
        body = bytes(response.body or b"")  # type: ignore[arg-type]  # json_response's body is bytes
        part = web.StreamResponse(status=response.status, headers={"Content-Type": "application/json"})
        part.content_length = len(body)
        await part.prepare(request)
        await part.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.abort()
    return response
