"""Folders of models as Transformers saves them, and as they arrive."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.artifacts import judging
from harness.artifacts.expectation import Expectation
from harness.core.verdict import Verdict
from tests.field.case import field_case
from tests.field.findings import FAIL, PASS, UNKNOWN, verdicts
from tests.support.model_files import TINY, write_training

INDEX = "model.safetensors.index.json"
HIDDEN, HEADS, KEYS, WIDE, ROWS = 256, 256, 128, 512, 300
CONFIG = {**TINY, "num_hidden_layers": 1}


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Tensors as BF16 when they are of half precision's width, else as they are."""
    header, blobs, at = {}, [], 0
    for name, values in tensors.items():
        blob = values.tobytes()
        kind = {"<u2": "BF16", "<f4": "F32", "<i8": "I64", "|u1": "U8"}[values.dtype.str]
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def weights() -> dict[str, np.ndarray[Any, Any]]:
    """A whole Qwen2 of one layer, by Transformers' names."""
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (ROWS, HIDDEN),
        f"{layer}self_attn.q_proj.weight": (HEADS, HIDDEN),
        f"{layer}self_attn.q_proj.bias": (HEADS,),
        f"{layer}self_attn.k_proj.weight": (KEYS, HIDDEN),
        f"{layer}self_attn.k_proj.bias": (KEYS,),
        f"{layer}self_attn.v_proj.weight": (KEYS, HIDDEN),
        f"{layer}self_attn.v_proj.bias": (KEYS,),
        f"{layer}self_attn.o_proj.weight": (HIDDEN, HEADS),
        f"{layer}mlp.gate_proj.weight": (WIDE, HIDDEN),
        f"{layer}mlp.up_proj.weight": (WIDE, HIDDEN),
        f"{layer}mlp.down_proj.weight": (HIDDEN, WIDE),
        f"{layer}input_layernorm.weight": (HIDDEN,),
        f"{layer}post_attention_layernorm.weight": (HIDDEN,),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (ROWS, HIDDEN),
    }
    random = np.random.default_rng(3)
    floats = {name: np.asarray(random.normal(0, 0.02, shape), dtype="<f4") for name, shape in shapes.items()}
    return {name: (values.view("<u4") >> 16).astype("<u2") for name, values in floats.items()}


def write_model(folder: Path, *, change: Callable[[dict[str, Any]], object] = lambda _: None, parts: int = 1) -> Path:
    write_training(folder, CONFIG)
    tensors = weights()
    change(tensors)
    if parts == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    where = {name: f"model-{at % parts + 1:05d}-of-{parts:05d}.safetensors" for at, name in enumerate(tensors)}
    for file in sorted(set(where.values())):
        write_safetensors(folder / file, {name: tensors[name] for name in tensors if where[name] == file})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}), encoding="utf-8")
    return folder


def _edit(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        body = json.loads((folder / name).read_text(encoding="utf-8"))
        change(body)
        (folder / name).write_text(json.dumps(body), encoding="utf-8")

    return edit


def _drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.pop(name)


def _renamed(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name.replace(old, new): tensors.pop(name) for name in list(tensors)})


def _set(name: str, place: Any, value: int) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name][place] = value

    return change


def _hole(tensors: dict[str, Any]) -> None:
    tensors["model.layers.0.mlp.up_proj.weight"].reshape(-1)[9000:14000] = 0


def _biases(tensors: dict[str, Any]) -> None:
    for name, values in tensors.items():
        if name.endswith(".bias"):
            values[:] = 0


NOTHING: Callable[[Any], object] = lambda _: None  # noqa: E731 - a case that changes nothing
UP, Q = "model.layers.0.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"

MODELS = [
    field_case("whole, one file", "huggingface/transformers save_pretrained, run", 1, NOTHING, NOTHING, {}, ""),
    field_case("whole, three files", "huggingface/transformers save_pretrained, run", 3, NOTHING, NOTHING, {}, ""),
    field_case(
        "a stale set beside it",
        "unslothai/unsloth-zoo#808",
        3,
        NOTHING,
        lambda f: shutil.copy(f / "model-00001-of-00003.safetensors", f / "model-00001-of-00002.safetensors"),
        {},
        "",
    ),
    field_case(
        "no index",
        "unslothai/unsloth-zoo#35",
        3,
        NOTHING,
        lambda f: (f / INDEX).unlink(),
        {"files_whole": FAIL},
        "3 files lie there",
    ),
    field_case(
        "a shard is missing",
        "own: an interrupted download",
        3,
        NOTHING,
        lambda f: (f / "model-00002-of-00003.safetensors").unlink(),
        {"files_whole": FAIL},
        "model-00002-of-00003.safetensors is missing",
    ),
    field_case(
        "a shard is cut",
        "own: the disk was full",
        3,
        NOTHING,
        lambda f: (f / "model-00003-of-00003.safetensors").write_bytes(
            (f / "model-00003-of-00003.safetensors").read_bytes()[:-9]
        ),
        {"files_whole": FAIL},
        "model-00003-of-00003.safetensors: the tensors end",
    ),
    field_case(
        "a pickle under that name",
        "axolotl-ai-cloud/axolotl#3095",
        1,
        NOTHING,
        lambda f: (f / "model.safetensors").write_bytes(b"PK\3\4" + bytes(4000)),
        {"files_whole": FAIL},
        "a header of",
    ),
    field_case(
        "an empty file",
        "own: the process died",
        1,
        NOTHING,
        lambda f: (f / "model.safetensors").write_bytes(b""),
        {"files_whole": FAIL},
        "no header",
    ),
    field_case(
        "a tensor in another shard",
        "own: an index of another export",
        3,
        NOTHING,
        _edit(INDEX, lambda b: b["weight_map"].update({Q: "model-00001-of-00003.safetensors"})),
        {"files_whole": FAIL},
        f"{Q} is not in",
    ),
    field_case(
        "a tensor that the index leaves out",
        "own",
        3,
        NOTHING,
        _edit(INDEX, lambda b: b["weight_map"].pop(Q)),
        {"files_whole": FAIL},
        "the index does not say so",
    ),
    field_case(
        "an index that leads out of the folder",
        "own: a stranger's file",
        3,
        NOTHING,
        _edit(INDEX, lambda b: b["weight_map"].update({Q: "../x.safetensors"})),
        {"files_whole": FAIL},
        "../x.safetensors is missing",
    ),
    field_case(
        "pickled weights alone",
        "own: what is not read here",
        1,
        NOTHING,
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        {"files_whole": UNKNOWN},
        "pytorch_model.bin",
    ),
    field_case(
        "a matrix is missing",
        "own: an export that stopped",
        1,
        _drop(UP),
        NOTHING,
        {"tensors_as_predicted": FAIL},
        f"{UP} is missing",
    ),
    field_case(
        "no head, and not tied",
        "own",
        1,
        _drop("lm_head.weight"),
        NOTHING,
        {"tensors_as_predicted": FAIL},
        "lm_head.weight is missing",
    ),
    field_case(
        "no head, and tied",
        "ggml-org/llama.cpp#5824",
        1,
        _drop("lm_head.weight"),
        _edit("config.json", lambda b: b.update(tie_word_embeddings=True)),
        {},
        "",
    ),
    field_case(
        "a head, and tied",
        "ggml-org/llama.cpp#13328",
        1,
        NOTHING,
        _edit("config.json", lambda b: b.update(tie_word_embeddings=True)),
        {},
        "",
    ),
    field_case(
        "an adapter that was not merged",
        "own: save_pretrained before merge_and_unload",
        1,
        _renamed("q_proj.weight", "q_proj.base_layer.weight"),
        NOTHING,
        {"tensors_as_predicted": FAIL},
        "names of an adapter",
    ),
    field_case(
        "PEFT's prefix",
        "own: state_dict of a PeftModel",
        1,
        _renamed("model.", "base_model.model.model."),
        NOTHING,
        {"tensors_as_predicted": FAIL},
        "14 names of an adapter",
    ),
    field_case(
        "a compiled module's names",
        "own: torch.compile",
        1,
        _renamed("model.", "_orig_mod.model."),
        NOTHING,
        {"tensors_as_predicted": FAIL},
        "wrapped module",
    ),
    field_case(
        "a vocabulary that was resized",
        "own: added tokens, and config.json of before",
        1,
        lambda t: t.update({"model.embed_tokens.weight": t["model.embed_tokens.weight"][:290]}),
        NOTHING,
        {"tensors_as_predicted": FAIL},
        "[290, 256], expected [300, 256]",
    ),
    field_case(
        "an architecture that is not known",
        "own",
        1,
        NOTHING,
        _edit("config.json", lambda b: b.update(architectures=["Olmo2ForCausalLM"])),
        {"tensors_as_predicted": UNKNOWN},
        "Olmo2ForCausalLM",
    ),
    field_case(
        "a lone number among the tensors",
        "own: a learned scale of the logits has no dimension",
        1,
        lambda t: t.update({"model.logit_scale": np.asarray(1.5, dtype="<f4")}),
        _edit("config.json", lambda b: b.update(architectures=["Olmo2ForCausalLM"])),
        {"tensors_as_predicted": UNKNOWN},
        "Olmo2ForCausalLM",
    ),
    field_case(
        "a lone number that is none",
        "own: a learned scale of the logits became NaN",
        1,
        lambda t: t.update({"model.logit_scale": np.asarray(np.nan, dtype="<f4")}),
        _edit("config.json", lambda b: b.update(architectures=["Olmo2ForCausalLM"])),
        {"tensors_as_predicted": UNKNOWN, "weights_present": FAIL},
        "model.logit_scale: a scale that is not finite",
    ),
    field_case(
        "quantized",
        "own: a 4-bit base was saved",
        1,
        NOTHING,
        _edit("config.json", lambda b: b.update(quantization_config={"load_in_4bit": True})),
        {"tensors_as_predicted": UNKNOWN},
        "quantization_config",
    ),
    field_case(
        "a NaN",
        "own: a merge in half precision",
        1,
        _set(UP, (7, 7), 0x7FC0),
        NOTHING,
        {"weights_present": FAIL},
        f"{UP}: a scale that is not finite",
    ),
    field_case(
        "a hole",
        "own: a lost write",
        1,
        _hole,
        NOTHING,
        {"weights_present": FAIL},
        f"{UP}: zeros where weights should be",
    ),
    field_case(
        "a matrix of zeros",
        "own: a merge on the meta device",
        1,
        _set(Q, slice(None), 0),
        NOTHING,
        {"weights_present": FAIL},
        f"{Q}: zeros",
    ),
    field_case("biases of zeros", "own: a model that was built from a configuration", 1, _biases, NOTHING, {}, ""),
    field_case(
        "no tokenizer",
        "own: model.save_pretrained alone",
        1,
        NOTHING,
        lambda f: (f / "tokenizer.json").unlink(),
        {"tokenizer_there": FAIL},
        "tokenizer.json",
    ),
    field_case(
        "a token beyond the embeddings",
        "own: added tokens, embeddings not resized",
        1,
        NOTHING,
        _edit("tokenizer.json", lambda b: b["added_tokens"].append({"id": 300, "content": "<new>"})),
        {"tokenizer_there": FAIL},
        "ids up to 300",
    ),
    field_case(
        "a SentencePiece model alone",
        "own: Llama 2",
        1,
        NOTHING,
        lambda f: (f / "tokenizer.json").rename(f / "tokenizer.model"),
        {},
        "",
    ),
]


@pytest.mark.parametrize(("parts", "change", "damage", "expected", "words"), MODELS)
def test_a_models_folder(
    tmp_path: Path,
    *,
    parts: int,
    change: Callable[[dict[str, Any]], object],
    damage: Callable[[Path], object],
    expected: Mapping[str, Verdict],
    words: str,
) -> None:
    folder = write_model(tmp_path / "model", change=change, parts=parts)
    damage(folder)
    judged = judging.judge(folder, Expectation())
    assert judged.kind == "model"
    assert verdicts(judged.findings) == expected
    assert words in "".join(finding.seen for finding in judged.findings if finding.verdict is not PASS)
