"""Expected properties of a model file: as many as are known before it is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness.artifacts import gguf, model_shape, quantizations, tokenizer
from harness.artifacts.hyperparameters import HYPERPARAMETERS
from harness.artifacts.tokenizer import TrainedTokenizer
from harness.core.errors import BadInput
from harness.core.ids import Sha256, sha256

OUTPUT_ADAPTER: Final = Path("models", "output", "adapter")
"""Place of the finished adapter and its tokenizer in a package, by the contract."""

_ABOVE: Final = 4  # a checkpoint lies in models/output/sft/checkpoint-N
_OF_TRAINING: Final = ("adapter_config.json", "trainer_state.json", "training_args.bin")
_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Expectation:
    """Known properties of a file; None is not known. Sizes in bytes.

    ``config`` is the trained model's ``config.json``, ``trained`` its tokenizer. ``zero_rows`` says that the
    base model has rows of zeros for tokens that were never trained, ``certain_template`` that ``trained`` holds the
    chat template of the training and not one that the export may have replaced.
    """

    config: Mapping[str, Any] | None = None
    trained: TrainedTokenizer | None = None
    quantization: str | None = None
    over_bytes: int | None = None
    size: int | None = None
    sha256: Sha256 | None = None
    zero_rows: bool = False
    certain_template: bool = True


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


def config_of(header: gguf.Gguf) -> dict[str, Any]:
    """The configuration that a file states of itself, in the words of ``config.json``. Fields may be missing."""
    metadata = header.metadata
    kind = metadata.get("general.architecture")
    names = {family.name: long for long, family in reversed(model_shape.FAMILIES.items())}
    tokens = metadata.get("tokenizer.ggml.tokens")
    tensors = {tensor.name for tensor in header.tensors}
    rope = next((kind for name, kind in _ROPE_TENSORS.items() if name in tensors), None)
    stated = {
        "architecture": names.get(kind, kind) if isinstance(kind, str) else None,
        "vocab_size": tokens.length if isinstance(tokens, gguf.Array) else metadata.get(f"{kind}.vocab_size"),
        # A file without its output matrix is a tied model or a damaged one; only the configuration can tell.
        "tie_word_embeddings": "output.weight" not in tensors,
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "num_local_experts": metadata.get(f"{kind}.expert_count"),
    }
    found = stated | {long: metadata.get(f"{kind}.{short}") for long, short in HYPERPARAMETERS.items()}
    head = found["head_dim"] or _quotient(found["hidden_size"], found["num_attention_heads"])
    share = _quotient(metadata.get(f"{kind}.rope.dimension_count"), head)
    return found | {"rope_scaling": {"rope_type": rope, "partial_rotary_factor": share}}


_ROPE_TENSORS: Final = {"rope_freqs.weight": "llama3", "rope_factors_long.weight": "longrope"}


def _quotient(value: object, by: object) -> float | None:
    return value / by if isinstance(value, int) and isinstance(by, int | float) and by else None


def _of_directory(directory: Path) -> Expectation:
    """Expectation from a directory: a base's, a merged model's, or any that a training wrote.

    Of a training's directories one has the configuration and another the tokenizer: what the named one lacks is
    taken from the run that it belongs to, the nearest folder above with a ``run.json``.
    """
    if not directory.is_dir():
        raise BadInput(f"--config {directory} is not a directory")
    here = directory.absolute()
    run = next((folder for folder in (here, *here.parents[:_ABOVE]) if (folder / "run.json").is_file()), None)
    config = _config(directory, run)
    told = [directory] if run is None else [run / OUTPUT_ADAPTER, directory]
    source = next((folder for folder in told if (folder / "tokenizer.json").is_file()), None)
    trained = None if source is None else tokenizer.read_trained(source)
    certain = run is not None or any((directory / name).is_file() for name in _OF_TRAINING)
    return Expectation(config=config, trained=trained, certain_template=certain)


def _config(directory: Path, run: Path | None) -> Mapping[str, Any]:
    if (directory / "config.json").is_file():
        return model_shape.read_config(directory / "config.json")
    if run is not None:
        model = model_shape.read_config(run / "run.json").get("model")
        if isinstance(model, dict) and isinstance(config := model.get("config"), dict):
            return config
    if (directory / "adapter_config.json").is_file():
        base = model_shape.read_config(directory / "adapter_config.json").get("base_model_name_or_path")
        if isinstance(base, str) and (Path(base) / "config.json").is_file():
            return model_shape.read_config(Path(base) / "config.json")
    raise BadInput(
        f"--config {directory} holds no config.json, and no run.json is above it",
        remedy="Name the folder of the base model, of the merged model, or of the training's run.",
    )


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
