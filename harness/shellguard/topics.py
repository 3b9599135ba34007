"""Topics of the rules: a cheap search of a text for them, before anything is parsed. Pure."""

from __future__ import annotations

import re

from harness.shellguard.machines import TOOLS

# A line in which none of these stands, quotes and escapes taken away, has nothing to do with any rule.
_TOPIC = re.compile(
    r"vast|destroy|recycle|ssh|scp|sftp|lftp|rsync|torch|accelerate|deepspeed|fsdp|/api/v\d|models/output|/workspace"
    r"|powershell|pwsh|accept-loss|\bunlock|harness guard|harness_home|gold-standard-harness|keyring|secret-tool"
    r"|keychain|kwallet|generic-password|get_password|open_wall|keystore|harness\.(cli|providers)"
    r"|\bsky\b|runpod|lambda(labs)?\.|(^|[\s;&|(/\\'\"])(" + "|".join(sorted(TOOLS)) + r")(\.exe)?\s"
)
_BUILT = re.compile(r"(^|[;&|(\n{])\s*[\"']?\$\{?\w|&\s*\(")
"""A program whose name stands in variables, or is put together."""
_ACTS = r"destroy|recycle|update|delete|reset|change|execute|repl"
_MENTIONS = re.compile(
    rf"\bvast.*\b({_ACTS})|\b({_ACTS})\b.*vastai|\b(destroy|recycle) instance|_instance|torchrun"
    r"|\bguard\W{1,4}unlock\b|accelerate launch|deepspeed|torch\.distributed|(rm|delete)\b.*(\.gguf|models/output)",
    re.DOTALL,
)
_QUOTING = re.compile(r"""\\\r?\n|\$?["']|[\\`^]|\$\(\)|\$\{\}""")


_CODED = re.compile(r"\\(?:x([0-9a-f]{1,2})|u([0-9a-f]{1,4})|([0-7]{1,3}))")


def touches(text: str) -> bool:
    """True for a line that could break a rule; any other is allowed without being parsed."""
    return any(_TOPIC.search(one) for one in (text.lower(), _plain(text))) or _BUILT.search(text) is not None


def mentions(text: str) -> bool:
    """True for a text that names a guarded act, quoting aside: if it cannot be read, it is held."""
    return _MENTIONS.search(" ".join(_plain(text).split())) is not None


def _plain(text: str) -> str:
    r"""The text in lower case without quotes and escapes, coded letters (``$'\x76'``) decoded."""

    def decoded(found: re.Match[str]) -> str:
        return chr(int(found[1] or found[2], 16) if found[1] or found[2] else int(found[3], 8))

    return _QUOTING.sub("", _CODED.sub(decoded, text.lower())).lower()
