"""Vast.ai, through its official client, which is imported when a provider is opened."""

from __future__ import annotations

from pathlib import Path

from harness.core.ports import Provider
from harness.providers.registry import ProviderSettings
from harness.providers.vast.credentials import resolve
from harness.providers.vast.provider import VastProvider


def open_provider(settings: ProviderSettings) -> Provider:
    """The account behind the operator's key; raises BadInput when there is none, MissingExtra without the client."""
    return VastProvider(resolve(settings.environ, Path.home(), server_url=settings.server_url), settings.clock)
