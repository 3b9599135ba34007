"""Templates and environment variables of the account: what a new instance gets without being told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Json, JsonValue

from harness.emulator import market
from harness.emulator.refusal import Refusal, invalid
from harness.emulator.request import given
from harness.emulator.template import RECOMMENDED, Template, TemplateRequest
from harness.emulator.web.exchange import Answer
from harness.emulator.world import World

MAX_SECRETS = 100
MAX_TEMPLATES = 1000

Name = Annotated[str, Field(alias="key", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
Value = Annotated[str, Field(min_length=1, max_length=4096)]


async def search_templates(world: World, *, select_filters: Json[dict[str, JsonValue]] | None = None) -> Answer:
    """GET /template/: the account's own, and the one that the service offers."""
    rows = [template.row() for template in (RECOMMENDED, *world.state.templates.values())]
    found = market.arranged(rows, select_filters or {})
    return {"success": True, "templates_found": len(found), "templates": found}


async def create_template(world: World, body: Answer) -> Answer:
    """POST /template/."""
    content = TemplateRequest.read(body)
    if not content.name or not content.image:
        raise invalid("a template needs a name and an image")
    with world.changing():
        if len(world.state.templates) >= MAX_TEMPLATES:
            raise invalid(f"there are {MAX_TEMPLATES} templates")
        made = Template(world.state.new_id(), world.scenario.account.user_id, world.clock.now(), content)
        return _kept(world, made, f"Template Created Successfully! New Template ID: {made.id}")


async def update_template(world: World, body: Answer, *, hash_id: str) -> Answer:
    """PUT /template/: what is not sent stays; its hash is another one afterwards."""
    with world.changing():
        known = template_of(world, hash_id, own=True)
        changed = TemplateRequest.read({**known.content.model_dump(), **given(body)})
        return _kept(world, Template(known.id, known.creator_id, known.created_at, changed), "Template updated")


async def delete_template(world: World, *, hash_id: str = "", template_id: int = 0) -> Answer:
    """DELETE /template/ by hash or number."""
    with world.changing():
        del world.state.templates[template_of(world, hash_id, template_id, own=True).id]
    return {"success": True, "msg": "Template deleted"}


def template_of(world: World, hash_id: str = "", template_id: int = 0, *, own: bool = False) -> Template:
    """A template by hash or number, one of the account's with ``own``; refuses with 404."""
    known: list[Template] = [*world.state.templates.values(), *(() if own else (RECOMMENDED,))]
    for template in known:
        if hash_id == template.hash_id or template_id == template.id:
            return template
    raise Refusal(404, "not_found", f"Template {hash_id or template_id} not found.")


async def show_env_vars(world: World) -> Answer:
    """GET /secrets/."""
    return {"success": True, "secrets": dict(world.state.secrets)}


async def create_env_var(world: World, *, name: Name, value: Value) -> Answer:
    """POST /secrets/: in the environment of every container that starts from now on; names are upper case."""
    with world.changing():
        if name.upper() in world.state.secrets:
            raise Refusal(400, "existing_key", f"{name.upper()} is there already; update it instead")
        if len(world.state.secrets) >= MAX_SECRETS:
            raise Refusal(400, "max_secrets", f"there are {MAX_SECRETS} variables")
        world.state.secrets[name.upper()] = value
    return {"success": True, "msg": "Environment variable added successfully"}


async def update_env_var(world: World, *, name: Name, value: Value) -> Answer:
    """PUT /secrets/."""
    with world.changing():
        _needs_secret(world, name)
        world.state.secrets[name.upper()] = value
    return {"success": True, "msg": "Environment variable updated successfully"}


async def delete_env_var(world: World, *, name: Name) -> Answer:
    """DELETE /secrets/."""
    with world.changing():
        _needs_secret(world, name)
        del world.state.secrets[name.upper()]
    return {"success": True, "msg": "Environment variable deleted successfully"}


def _needs_secret(world: World, name: str) -> None:
    if name.upper() not in world.state.secrets:
        raise Refusal(400, "nonexistent_key", f"there is no variable {name.upper()}")


def _kept(world: World, template: Template, said: str) -> Answer:
    world.state.templates[template.id] = template
    shown = {"id": template.id, "hash_id": template.hash_id, "name": template.content.name}
    return {"success": True, "msg": said, "template": shown}
