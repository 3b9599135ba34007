"""Vast.ai, through its official client, which is imported when a provider is opened."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import BaseModel

from harness.core.ports import Provider
from harness.providers.keeping import KeyStore
from harness.providers.registry import ProviderSettings
from harness.providers.scoped_keys import KeyIssuer
from harness.providers.vast.credentials import resolve, server_of
from harness.providers.vast.keys import VastKeyIssuer
from harness.providers.vast.provider import VastProvider
from harness.providers.vast.rate_limits import Pace
from harness.providers.wall import working_key


class VastSettings(BaseModel):
    """Settings of Vast.ai."""

    server_url: str | None = None
    """Address of the marketplace's API, where it is not the usual one."""


SETTINGS = VastSettings


def open_provider(settings: ProviderSettings) -> Provider:
    """The account behind the operator's key; raises BadInput when there is none, MissingExtra without the client.

    Where a wall stands (``harness guard lock``), it is asked with the key that the wall keeps for the harness.
    """
    kept = partial(working_key, KeyStore(settings.home, settings.kind))
    found = resolve(settings.environ, Path.home(), server_url=settings.read(VastSettings).server_url, working=kept)
    return VastProvider(found, settings.clock)


def open_key_issuer(settings: ProviderSettings) -> KeyIssuer:
    """The scoped keys of the account; nothing is asked yet."""
    server = server_of(settings.environ, settings.read(VastSettings).server_url)
    return VastKeyIssuer(server, settings.environ, Path.home(), settings.clock, Pace())
