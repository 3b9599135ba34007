"""Vast.ai, through its official client, which is imported when a provider is opened."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import BaseModel

from harness.core.ports import Provider
from harness.providers.assumptions import Subject
from harness.providers.keeping import KeyStore
from harness.providers.rate_limits import Pace
from harness.providers.registry import ProviderSettings
from harness.providers.vast.assumptions import ASSUMPTIONS
from harness.providers.vast.credentials import Credentials, resolve, server_of
from harness.providers.vast.keys import VastKeyIssuer
from harness.providers.vast.provider import VastProvider
from harness.providers.wall import working_key

__all__ = ("ASSUMPTIONS", "open_key_issuer", "open_provider", "open_stop_keys", "open_subject")


class VastSettings(BaseModel):
    """Settings of Vast.ai."""

    server_url: str | None = None
    """Address of the marketplace's API, where it is not the usual one."""


SETTINGS = VastSettings


def open_provider(settings: ProviderSettings) -> Provider:
    """The account behind the operator's key; raises BadInput when there is none, MissingExtra without the client.

    Where a wall stands (``harness guard lock``), it is asked with the key that the wall keeps for the harness.
    """
    return VastProvider(_credentials(settings), settings.clock)


def open_subject(settings: ProviderSettings) -> Subject:
    """The account as the provider is opened, with what is believed of the service; nothing is asked yet."""
    from harness.providers.vast.trials import subject  # noqa: PLC0415 - one command needs it

    return subject(_credentials(settings), settings.clock, open_key_issuer(settings), Pace())


def _credentials(settings: ProviderSettings) -> Credentials:
    kept = partial(working_key, KeyStore(settings.home, settings.kind))
    server = settings.read(VastSettings).server_url
    return resolve(settings.environ, Path.home(), server_url=server, working=kept)


def open_key_issuer(settings: ProviderSettings) -> VastKeyIssuer:
    """The scoped keys of the account; nothing is asked yet."""
    server = server_of(settings.environ, settings.read(VastSettings).server_url)
    return VastKeyIssuer(server, settings.environ, Path.home(), settings.clock, Pace())


open_stop_keys = open_key_issuer
"""The same, for a box."""
