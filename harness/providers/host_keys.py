"""Host keys in a container's log, for providers that show one: printed by its start script, read back. Pure."""

from __future__ import annotations

import re

_BEGIN, END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"
_BLOCK = re.compile(f"{_BEGIN}(.*?){END}", re.DOTALL)
_KEY = re.compile(r"^((?:ssh|ecdsa)-[a-z0-9-]{1,40} [A-Za-z0-9+/=]{16,2000})(?=\s)", re.MULTILINE)
_MOST_KEYS = 8

SCRIPT = f"""echo '{_BEGIN}'
cat /etc/ssh/ssh_host_*_key.pub
echo '{END}'
"""
"""Prints the host keys in cloud-init's form."""


def read(log: str, *, newest: bool = False) -> tuple[str, ...]:
    """The host keys (``type base64``) in the first block that the container printed, or in its newest.

    What the first block says cannot be changed by anything that the container prints later.
    """
    blocks = _BLOCK.findall(log)
    if not blocks:
        return ()
    return tuple(dict.fromkeys(_KEY.findall(blocks[-1 if newest else 0])))[:_MOST_KEYS]
