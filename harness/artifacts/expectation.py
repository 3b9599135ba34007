"""Expected properties of a model file: as many as are known before it is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness.artifacts import gguf, model_shape, quantizations, tokenizer
from harness.artifacts.tokenizer import TrainedTokenizer
from harness.core.errors import BadInput
from harness.core.ids import Sha256, sha256

_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Known properties of a file; None is not known. Sizes in bytes.

    ``config`` is the trained model's ``config.json``, ``trained`` its tokenizer. ``zero_rows`` says that the
    base model has rows of zeros for tokens that were never trained.
    """

    config: Mapping[str, Any] | None = None
    trained: TrainedTokenizer | None = None
    quantization: str | None = None
    over_bytes: int | None = None
    size: int | None = None
    sha256: Sha256 | None = None
    zero_rows: bool = False


def of(config: Path | None = None, expect: str = "", digest: str | None = None) -> Expectation:
    """An expectation from a training's directory, ``quant=Q8_0,over=5GB,size=8098525888,zero_rows=yes``, a digest.

    ``min_bytes`` is another word for ``over``. Raises BadInput naming what cannot be used.
    """
    known = Expectation() if config is None else _of_directory(config)
    for item in filter(None, (part.strip() for part in expect.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise BadInput(f"--expect {item[:80]!r} is not of the form key=value")
        known = _with(known, key, value)
    if digest is not None:
        try:
            known = replace(known, sha256=sha256(digest))
        except ValueError as error:
            raise BadInput(f"--sha256: {error}") from error
    return known


def quantization_of(header: gguf.Gguf) -> str | None:
    """Quantization that a file states, or that its first projection has when it states none; None when unknown."""
    types = {tensor.name: tensor.type for tensor in header.tensors}
    return quantizations.stated_by(header.metadata.get("general.file_type"), types.get("blk.0.attn_q.weight", ""))


def config_of(header: gguf.Gguf) -> dict[str, Any]:
    """The configuration that a file states of itself, in the words of ``config.json``. Fields may be missing."""
    metadata = header.metadata
    kind = metadata.get("general.architecture")
    names = {short: long for long, short in model_shape.ARCHITECTURES.items()}
    tokens = metadata.get("tokenizer.ggml.tokens")
    tensors = {tensor.name for tensor in header.tensors}
    stated = {
        "architecture": names.get(kind, kind) if isinstance(kind, str) else None,
        "vocab_size": tokens.length if isinstance(tokens, gguf.Array) else metadata.get(f"{kind}.vocab_size"),
        # A file without its output matrix is a tied model or a damaged one; only the configuration can tell.
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "rope_scaling": {"rope_type": "llama3"} if "rope_freqs.weight" in tensors else None,
    }
    return stated | {long: metadata.get(f"{kind}.{short}") for long, short in HYPERPARAMETERS.items()}


HYPERPARAMETERS: Final = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
"""``config.json``'s words -> GGUF's keys behind the architecture's name."""


def _of_directory(directory: Path) -> Expectation:
    if not directory.is_dir():
        raise BadInput(f"--config {directory} is not a directory")
    config = model_shape.read_config(directory / "config.json")
    trained = tokenizer.read_trained(directory) if (directory / "tokenizer.json").is_file() else None
    return Expectation(config=config, trained=trained)


def _with(known: Expectation, key: str, value: str) -> Expectation:
    match key:
        case "quant" | "quantization":
            if value.upper() not in quantizations.BY_NAME:
                raise BadInput(f"--expect quant={value[:40]}: known are {', '.join(quantizations.BY_NAME)}")
            return replace(known, quantization=value.upper())
        case "over" | "min_bytes":
            return replace(known, over_bytes=size_in_bytes(f"--expect {key}", value))
        case "size" | "bytes":
            return replace(known, size=size_in_bytes(f"--expect {key}", value))
        case "zero_rows":
            if value not in {"yes", "no"}:
                raise BadInput(f"--expect zero_rows={value[:40]}: yes or no")
            return replace(known, zero_rows=value == "yes")
    raise BadInput(f"--expect {key[:40]!r}: known are quant, over, min_bytes, size, zero_rows")


def size_in_bytes(option: str, text: str) -> int:
    """Bytes of a size as people write it, such as 4.7GiB; raises BadInput naming the option that it was given to."""
    match = _SIZE.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or unit not in _UNITS:
        raise BadInput(f"{option}={text[:40]}: a size such as 5000000000, 5GB or 4.7GiB")
    return round(float(match[1]) * _UNITS[unit]) if "." in match[1] else int(match[1]) * _UNITS[unit]
