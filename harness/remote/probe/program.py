"""Builds the programs that are sent to the box from the modules in ``harness.remote.box``. Pure but for reading them.

A program is one text for the standard input of ``python3 -I -S -``: the modules' compressed
sources, loaded under their own names, and a request as JSON. Nothing is written on the box.
``-I`` keeps files in the box's home from standing in for the standard library, ``-S`` leaves out
its installed packages, which makes the start twice as fast.
"""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.ports import Json

INTERPRETER = ("python3", "-I", "-S", "-")
HEARD = "harness.remote.box.heard"
"""Goes before every program: the switch of a box is to know of it."""
PROBE = (
    "harness.remote.box.files",
    "harness.remote.box.machine",
    "harness.remote.box.session",
    "harness.remote.box.training",
    "harness.remote.box.excerpt",
    "harness.remote.box.answer",
)
SESSION = ("harness.remote.box.files", "harness.remote.box.machine", "harness.remote.box.session")
SWITCH = (*SESSION, "harness.remote.box.switch")
RANGES = ("harness.remote.box.ranges",)
RECEIVE = (*SESSION, "harness.remote.box.outputs", "harness.remote.box.receive")
FINETUNE = (
    "harness.artifacts.gguf",
    "harness.artifacts.lora",
    "harness.artifacts.safetensors",
    "harness.remote.box.dequantize",
    "harness.remote.box.finetune",
)
EXTRAS = {
    "gguf": ("harness.artifacts.gguf",),
    "weights": ("harness.artifacts.safetensors",),
    "checkpoints": ("harness.artifacts.safetensors", "harness.artifacts.checkpoint"),
}
"""Modules that are sent along only when an operation that needs them is asked for."""

_LOADER = """
import base64, json, sys, types, zlib
for name, text in json.loads(zlib.decompress(base64.b85decode({bundle!r}))):
    parent, _, leaf = name.rpartition(".")
    while parent and parent not in sys.modules:
        sys.modules[parent] = types.ModuleType(parent)
        parent = parent.rpartition(".")[0]
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
    for child in [n for n in list(sys.modules) if n.startswith(name.split(".")[0] + ".")]:
        setattr(sys.modules[child.rpartition(".")[0]], child.rpartition(".")[2], sys.modules[child])
sys.modules[{heard!r}].touch()
sys.modules[{main!r}].main(json.loads({request!r}))
"""


def program(modules: tuple[str, ...], request: Mapping[str, Json]) -> str:
    """The text of a program: the modules in the order in which they import each other; the last one's ``main`` runs."""
    bundle = _bundle((HEARD, *modules))
    return _LOADER.format(bundle=bundle, heard=HEARD, main=modules[-1], request=json.dumps(request))


@functools.cache
def _bundle(modules: tuple[str, ...]) -> bytes:
    sources = [(name, _source(name)) for name in modules]
    return base64.b85encode(zlib.compress(json.dumps(sources).encode(), 9))


def _source(name: str) -> str:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise HarnessError(f"the source of {name} is not installed: it cannot be sent to the box")
    return Path(found.origin).read_text(encoding="utf-8")


def streamed(modules: tuple[str, ...], request: Mapping[str, Json], mark: str = "") -> tuple[tuple[str, ...], bytes]:
    """A program that goes on reading its standard input: its command, and what to send first.

    With a ``mark``, its standard output begins behind a line of that: a login shell may have printed something before.
    """
    text = program(modules, request).encode()
    begin = f"print({chr(10) + mark!r}, flush=True); " if mark else ""
    loader = f"import sys; {begin}exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline(20))))"
    return (*INTERPRETER[:-1], "-c", loader), b"%d\n%b" % (len(text), text)
