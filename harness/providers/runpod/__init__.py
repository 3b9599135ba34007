"""RunPod, over its REST API v2. Written from its published description, and never run live: docs/runpod.md."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel

from harness.core.ports import Provider
from harness.providers.rate_limits import UNPACED, Pace
from harness.providers.registry import ProviderSettings
from harness.providers.runpod.access import resolve
from harness.providers.runpod.provider import BILLED_EVERY_S, RunPodProvider


class RunPodSettings(BaseModel):
    """Settings of RunPod."""

    server_url: str | None = None
    """Address of the API, where it is not the usual one."""


SETTINGS = RunPodSettings


def open_provider(settings: ProviderSettings) -> Provider:
    """The account behind RUNPOD_API_KEY; raises BadInput when there is none, MissingExtra without ``requests``."""
    access = resolve(settings.environ, settings.read(RunPodSettings).server_url)
    if urlsplit(access.server_url).scheme == "http":  # on this machine: it limits nothing, and books at once
        return RunPodProvider(access, settings.clock, pace=UNPACED, bills_every_s=0.0)
    return RunPodProvider(access, settings.clock, pace=Pace(), bills_every_s=BILLED_EVERY_S)
