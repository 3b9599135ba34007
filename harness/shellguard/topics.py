"""Whether a text has anything to do with a rule at all, before anything is parsed. Pure."""

from __future__ import annotations

import re

# A line in which none of these stands, quotes and escapes taken away, has nothing to do with any rule.
_TOPIC = re.compile(
    r"vast|destroy|recycle|ssh|scp|sftp|lftp|rsync|torch|accelerate|deepspeed|fsdp|/api/v\d|models/output|/workspace"
    r"|powershell|pwsh|\\x|\\u|\\[0-7]{2}"
)
_MENTIONS = re.compile(
    r"vast.*\b(destroy|recycle|update|delete|reset|change|execute|repl)|\b(destroy|recycle) instance|_instance|torchrun"
    r"|accelerate launch|deepspeed|torch\.distributed|(rm|delete)\b.*(\.gguf|models/output)",
    re.DOTALL,
)
_QUOTING = re.compile(r"""\\\r?\n|["'\\`^]|\$\(\)|\$\{\}""")


def touches(text: str) -> bool:
    """Whether a line could break a rule; one that could not is allowed without being parsed."""
    lowered = text.lower()
    return _TOPIC.search(lowered) is not None or _TOPIC.search(_QUOTING.sub("", lowered)) is not None


def mentions(text: str) -> bool:
    """Whether a text names a guarded act, quoting aside: if it cannot be read, it is held."""
    squeezed = " ".join(_QUOTING.sub("", text).lower().split())
    return _MENTIONS.search(squeezed) is not None
