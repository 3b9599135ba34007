"""Device maps that a script loads its models with, read from its syntax tree. Pure."""

from __future__ import annotations

import ast
import re

from harness.core.observed import CouldNotLook
from harness.static.flow import Fate, fate
from harness.static.script import PythonScript, Setting, callee, keywords, parse, setting

DEVICE_MAP = "device_map"

_FIRST_GPU = frozenset({"cuda", "cuda:0", "0"})
_SPREADING = frozenset({"auto", "balanced", "balanced_low_0", "sequential", "None"})
"""Device maps that come to the one GPU where there is one; None leaves it to the trainer, which does."""

_MODEL_CLASS = re.compile(r"AutoModel\w*|\w+For[A-Z]\w*|\w+LMHeadModel|Fast\w*Model")
"""Classes of transformers, PEFT and Unsloth whose ``from_pretrained`` puts weights on devices."""

_BY_DEFAULT = {True: "sequential", False: "None"}
"""Device map of a loader that is given none: Unsloth's, and the others'."""

_OWN_INDEX = frozenset({"process_index", "local_process_index", "local_rank", "current_device"})
"""Attributes and functions of accelerate and torch that tell the GPU of the own process."""


def device_maps(text: str) -> tuple[str, ...]:
    """Every ``device_map`` that a script's text loads a model with; raises CouldNotLook for one that is computed."""
    found = []
    for told in settings(parse(text)):
        if told.value is None:
            raise CouldNotLook(f"line {told.line}: {told.source}: its value cannot be read from the script")
        found.append(told.value)
    return tuple(found)


def fits_one_gpu(device_map: str) -> bool:
    """True for a device map, as the script writes it, that puts the whole model on the first GPU."""
    whole = re.fullmatch(r"""\{\s*(?:''|"")\s*:\s*["']?([\w:]+)["']?\s*\}""", device_map)
    return whole.group(1) in _FIRST_GPU if whole else device_map in _FIRST_GPU | _SPREADING


def settings(script: PythonScript) -> tuple[Setting, ...]:
    """Every ``device_map`` that a call is given, and every model that is loaded without one.

    A call that is no loader may be told of a device map without using it (to log it), so that
    only a value that stands there counts; a helper that hands a variable on to the loader is
    found at the loader. A model that is loaded to have its adapter merged is not trained, and may lie anywhere.
    """
    found = []
    for call in script.calls:
        loads = _loads_a_model(call)
        if callee(call.func).endswith("from_pretrained") and fate(call, script) is Fate.MERGED:
            continue
        options, whole = keywords(call, script)
        if DEVICE_MAP in options:
            told = setting(call, _first_process(options[DEVICE_MAP]), script)
            found += [told] if loads or told.value is not None else []
        elif loads:
            name = callee(call.func)
            default = _BY_DEFAULT[name.split(".")[-2].startswith("Fast")]
            found.append(Setting(call.lineno, default if whole else None, f"{name}() without {DEVICE_MAP}"))
    return tuple(sorted(found, key=lambda told: told.line))


def _first_process(value: ast.expr) -> ast.expr:
    """A map to the GPU of "this process", of which there is one, as the map to the first GPU that it is."""
    match value:
        case ast.Dict(keys=[ast.Constant(value="") as key], values=[ast.Attribute(attr=name)]) if name in _OWN_INDEX:
            return ast.Dict([key], [ast.Constant(0)])
        case ast.Dict(keys=[ast.Constant(value="") as key], values=[ast.Call(func=ast.Attribute(attr=name))]):
            return ast.Dict([key], [ast.Constant(0)]) if name in _OWN_INDEX else value
        case _:
            return value


def _loads_a_model(call: ast.Call) -> bool:
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"):
        return False
    owner = callee(call.func).split(".")[-2:-1]
    return bool(owner) and _MODEL_CLASS.fullmatch(owner[0]) is not None
