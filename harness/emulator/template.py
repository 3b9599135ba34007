"""Templates: values that a new instance takes unless its request says otherwise. Pure."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked_dataclass

from harness.core.ports import Json
from harness.emulator.request import Image, Label, Onstart, Request, given

_Text = Annotated[str, Field(max_length=65536)]


class TemplateRequest(Request):
    """Template to create or change. Disk in GB; ``env`` in the words of docker's options: ``-e KEY=VALUE -p 80:80``."""

    name: Label = ""
    image: Image = ""
    tag: Label = ""
    env: _Text = ""
    onstart: Onstart = ""
    runtype: Label = "args"
    use_ssh: bool = False
    ssh_direct: bool = False
    jup_direct: bool = False
    use_jupyter_lab: bool = False
    jupyter_dir: Label | None = None
    docker_login_repo: Label | None = None
    href: Label | None = None
    repo: Label | None = None
    recommended_disk_space: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    extra_filters: dict[str, Any] = Field(default_factory=dict)
    readme: _Text = ""
    readme_visible: bool = True
    desc: _Text = ""
    private: bool = True


@checked_dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Template:
    """A template of the account, or of the service itself (creator 0)."""

    id: int
    creator_id: int
    created_at: float
    content: TemplateRequest

    @property
    def hash_id(self) -> str:
        """Its name in a create: a digest of what it says, new with every change."""
        said = json.dumps([self.creator_id, self.content.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    def row(self) -> dict[str, Json]:
        """The template as a search shows it."""
        own = {"id": self.id, "hash_id": self.hash_id, "creator_id": self.creator_id, "created_at": self.created_at}
        counts = {"count_created": 0, "recent_create_date": self.created_at, "recommended": self.creator_id == 0}
        return {**self.content.model_dump(mode="json"), **own, **counts, "default_tag": self.content.tag}

    def under(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A create's body with this template's values where it has none; of two ``env`` the request's wins by key."""
        said = self.content
        image = f"{said.image}:{said.tag}" if said.tag and ":" not in said.image else said.image
        runtype = f"{said.runtype}_direc ssh_proxy" if said.ssh_direct else said.runtype
        own = {"image": image, "onstart": said.onstart, "runtype": runtype}
        sent = given(body)
        env = sent.get("env") or {}
        return {**own, **sent, "env": {**docker_options(said.env), **env} if isinstance(env, dict) else env}


RECOMMENDED = Template(
    1,
    0,
    0.0,
    TemplateRequest(name="PyTorch (emulated)", image="vastai/pytorch", runtype="ssh", use_ssh=True, ssh_direct=True),
)
"""The one template that the service itself offers."""


def docker_options(line: str) -> dict[str, str]:
    """``env`` of a create from docker's options; what is not understood is left out, as the official client does."""
    try:
        words = shlex.split(line)
    except ValueError:
        return {}
    found = {}
    for option, value in pairwise(words):
        if option == "-e" and "=" in value:
            name, _, text = value.partition("=")
            found[name] = text
        elif option in {"-p", "-v"}:
            found[f"{option} {value}"] = "1"
    return found
