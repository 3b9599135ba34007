"""A machine of one's own, over SSH: claimed in place of rented, given back in place of destroyed, never billed."""

from __future__ import annotations

from harness.core.ports import Provider
from harness.providers.registry import ProviderSettings
from harness.providers.ssh.settings import SshSettings

SETTINGS = SshSettings


def open_provider(settings: ProviderSettings) -> Provider:
    """The machine that the job names; nothing is asked yet."""
    from harness.providers.ssh.provider import SshProvider  # noqa: PLC0415 - loads paramiko

    return SshProvider(settings.read(SshSettings), settings.home, settings.clock)
