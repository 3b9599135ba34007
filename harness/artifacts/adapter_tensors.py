"""Tensors in an adapter's file: their names and shapes, as PEFT 0.21 saves them for a configuration and a base model.

Two tables are told of each: tensors that must be there, and others that may be.
"""

from __future__ import annotations

from harness.artifacts import lora

Shapes = dict[str, tuple[int, ...]]


def expected(config: lora.Lora, base: Shapes) -> tuple[Shapes, Shapes]:
    """Tensors that PEFT saves for a configuration, and those that it may save, by their names in the file."""
    wanted: Shapes = {}
    allowed: Shapes = {}
    for parameter, shape in base.items():
        module, _, kind = parameter.rpartition(".")
        stem = f"{lora.PREFIX}{module}"
        matrix = base.get(f"{module}.weight", shape)
        adapted = len(matrix) == 2 and config.adapts(module)  # norms are vectors
        if config.saves(parameter):
            wanted[f"{lora.PREFIX}{parameter}"] = shape
        elif kind == "bias":
            if config.bias == "all" or (config.bias == "lora_only" and adapted):
                wanted[f"{stem}.base_layer.bias" if adapted else f"{stem}.bias"] = shape
        elif adapted:
            wanted |= _of_module(config, module, shape)
        if module.endswith(("embed_tokens", "lm_head")):
            # PEFT saves them, too, when they are adapted or tokens were added to them.
            allowed |= {f"{stem}.base_layer.weight": (-1, shape[1]), f"{stem}.weight": (-1, shape[1])}
        for name, tokens in config.tokens.items():
            if module.endswith(name):
                wanted[f"{stem}.token_adapter.trainable_tokens_delta"] = (len(tokens), shape[1])
    return wanted, allowed


def _of_module(config: lora.Lora, module: str, shape: tuple[int, ...]) -> Shapes:
    """LoRA tensors of one adapted module whose weight has this shape."""
    stem, rank, (height, width) = f"{lora.PREFIX}{module}", config.rank_of(module), shape
    if module.endswith("embed_tokens"):
        found: Shapes = {f"{stem}.lora_embedding_A": (rank, height), f"{stem}.lora_embedding_B": (width, rank)}
        return found | ({f"{stem}.lora_magnitude_vector": (width,)} if config.dora else {})
    found = {f"{stem}.lora_A.weight": (rank, width), f"{stem}.lora_B.weight": (height, rank)}
    if config.dora:
        found[f"{stem}.lora_magnitude_vector"] = (height,)
    if config.lora_bias:
        found[f"{stem}.lora_B.bias"] = (height,)
    return found


def consistent(config: lora.Lora, there: Shapes) -> tuple[Shapes, Shapes]:
    """Tensors that an adapter of an unknown base must have beside those it has: each module's own, of its rank."""
    wanted: Shapes = {}
    allowed: Shapes = {}
    for name, shape in there.items():
        stem, mark, rest = name.removeprefix(lora.PREFIX).partition(".lora_")
        if not mark:
            allowed[name] = shape
        elif config.adapts(stem) and name.startswith(lora.PREFIX):
            # One that is missing, or a lone number, says nothing of the other's size.
            up = there.get(f"{lora.PREFIX}{stem}.lora_B.weight") or (-1, -1)
            down = there.get(f"{lora.PREFIX}{stem}.lora_A.weight") or (-1, -1)
            if rest.startswith("embedding"):
                allowed[name] = shape
            else:
                wanted |= _of_module(config, stem, (up[0], down[-1]))
    if not wanted and not any("lora_" in name for name in there):
        wanted["lora_A and lora_B"] = ()
    return wanted, allowed
