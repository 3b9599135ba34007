"""Digests, manifests, checkpoints and adapters: whole ones pass, and each way of not being whole is named."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.artifacts import (
    adapter,
    adapter_tensors,
    checkpoint,
    digest,
    manifest,
    model_shape,
    parameters,
    safetensors,
    scales,
)
from harness.artifacts.lora import read as read_lora
from harness.core.errors import BadInput

torch = pytest.importorskip("torch", reason="checkpoints are written by torch")


def save_tensors(path: Path, tensors: dict[str, np.ndarray[Any, Any]], dtype: str = "F32") -> Path:
    """A safetensors file, by the format's own description."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in tensors.items():
        raw = values.astype("<f4").view("<u4") >> 16 if dtype == "BF16" else values
        stored = raw.astype({"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[dtype]).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + len(stored)],
        }
        data += stored
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def lora(rank: int = 4, scale: float = 0.01) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(3)
    found = {}
    for layer in range(2):
        for target in ("q_proj", "v_proj"):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            found[f"{stem}.lora_A.weight"] = random.normal(0, scale, (rank, 32))
            found[f"{stem}.lora_B.weight"] = random.normal(0, scale, (16, rank))
    return found


def write_adapter(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], dtype: str = "F32", rank: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}), encoding="utf-8")
    save_tensors(folder / "adapter_model.safetensors", tensors, dtype)
    return folder


def write_checkpoint(folder: Path, step: int) -> Path:
    path = write_adapter(folder / f"checkpoint-{step}", lora())
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}), encoding="utf-8")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({"state": torch.arange(500)}, path / name)
    return path


# --- digests ---------------------------------------------------------------------------------------


def test_a_digest_is_of_the_bytes_on_the_disk(tmp_path: Path) -> None:
    data = os.urandom(9 << 20)
    (tmp_path / "a").write_bytes(data)
    assert digest.of_file(tmp_path / "a") == digest.Hashed(len(data), digest.of_bytes(data))
    assert digest.of_bytes(data) == hashlib.sha256(data).hexdigest()
    (tmp_path / "empty").touch()
    assert digest.of_file(tmp_path / "empty").size == 0
    with pytest.raises(BadInput, match="cannot be read"):
        digest.of_file(tmp_path / "nowhere")


# --- manifests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a//b",
        "a/./b",
        "C:/windows",
        "a\\b",
        "a\nb",
        "a\x1b[31m",
        "con",
        "a/NUL.txt",
        "com¹",
        "a/nul .txt",
        "a/b.",
        "a/b ",
        "a:stream",
        "x" * 2000,
        None,
        7,
    ],
)
def test_paths_that_could_leave_their_directory_are_refused(path: object) -> None:
    with pytest.raises(ValueError, match="not a safe relative path"):
        manifest.safe_path(path)


def output_manifest() -> dict[str, Any]:
    entry = {"path": "models/output/final/m.Q8_0.gguf", "bytes": 812, "sha256": "a" * 64, "kind": "gguf"}
    return {
        "contract": 1,
        "steps": {"sft": 330, "dpo": 80},
        "files": [entry, {**entry, "path": "run.json", "kind": "run"}],
    }


def test_the_packages_manifest_is_read() -> None:
    read = manifest.read_output_manifest(json.dumps(output_manifest()))
    assert read.steps == {"sft": 330, "dpo": 80}
    (gguf,) = read.of_kind("gguf")
    assert (gguf.path, gguf.size, gguf.sha256) == ("models/output/final/m.Q8_0.gguf", 812, "a" * 64)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda body: body.update(contract=2), "contract"),
        (lambda body: body.pop("steps"), "steps"),
        (lambda body: body.update(files={}), "files"),
        (lambda body: body["files"][0].update(path="../../.ssh/authorized_keys"), "safe relative path"),
        (lambda body: body["files"][0].update(path="RUN.json"), "twice"),
        (lambda body: body["files"][0].update(bytes=-1), r"files\.0\.bytes"),
        (lambda body: body["files"][0].update(bytes=True), r"files\.0\.bytes"),
        (lambda body: body["files"][0].update(bytes=1 << 53), r"files\.0\.bytes"),
        (lambda body: body["steps"].update(sft=-1), r"steps\.sft"),
        (lambda body: body.update(contract=0), "contract"),
        (lambda body: body["files"][0].update(sha256="xyz"), "SHA-256"),
        (lambda body: body["files"][0].update(sha256=None), "sha256"),
        (lambda body: body["files"][0].update(kind="virus"), "kind"),
        (lambda body: body["files"][1].pop("path"), "path"),
        (lambda body: body["files"].append("x"), r"files\.2"),
    ],
)
def test_a_manifest_that_is_none_is_bad_input(change: Callable[[dict[str, Any]], Any], named: str) -> None:
    body = output_manifest()
    change(body)
    with pytest.raises(BadInput, match=named):
        manifest.read_output_manifest(json.dumps(body).encode())


@pytest.mark.parametrize("size", [0, (1 << 53) - 1])
@pytest.mark.parametrize("kind", ["gguf", "model", "adapter", "trainer_state", "modelfile", "run", "tracker"])
def test_every_kind_and_size_of_an_output_is_taken(size: int, kind: str) -> None:
    body = output_manifest()
    body["files"][0].update(bytes=size, kind=kind)
    read = manifest.read_output_manifest(json.dumps(body))
    assert (read.files[0].size, read.files[0].kind) == (size, kind)
    assert read.files[0] in read.of_kind(kind)
    as_artifact = [name for name in ("gguf", "model", "adapter", "run") if name in manifest.ARTIFACTS]
    assert as_artifact == ["gguf", "model"]
    assert manifest.TRACKER == "tracker"


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 200_000, b"\xff", "{}"])
def test_text_that_is_no_manifest_is_bad_input(text: str | bytes) -> None:
    with pytest.raises(BadInput, match="not a manifest"):
        manifest.read_output_manifest(text)


def test_a_path_and_a_manifest_are_taken_up_to_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert manifest.safe_path("x" * 1024) == "x" * 1024
    with pytest.raises(ValueError, match="not a safe relative path"):
        manifest.safe_path("x" * 1025)
    text = json.dumps(output_manifest())
    monkeypatch.setattr(manifest, "MAX_MANIFEST_BYTES", len(text))
    assert manifest.read_output_manifest(text).contract == 1
    monkeypatch.setattr(manifest, "MAX_MANIFEST_BYTES", len(text) - 1)
    with pytest.raises(BadInput, match=f"larger than {len(text) - 1} bytes"):
        manifest.read_output_manifest(text)


def test_our_own_list_of_what_was_found_is_read() -> None:
    assert manifest.read_found(b"{}") == {}
    assert manifest.read_found(json.dumps({"a/b": "A" * 64}).encode()) == {"a/b": "a" * 64}


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"../a": "' + b"a" * 64 + b'"}', b'{"a": "short"}', b'{"a": 5}'])
def test_a_list_of_what_was_found_that_is_none_is_bad_input(text: bytes) -> None:
    with pytest.raises(BadInput, match=r"^found-on-the-box\.json does not read: "):
        manifest.read_found(text)


# --- checkpoints -----------------------------------------------------------------------------------


def test_checkpoints_are_found_by_step_complete_or_not(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        write_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-300" / "optimizer.pt").unlink()
    (tmp_path / "runs").mkdir()
    assert [(each.step, each.complete) for each in checkpoint.find(tmp_path)] == [
        (100, True),
        (200, True),
        (300, False),
    ]
    assert checkpoint.find(tmp_path / "nowhere") == ()


def truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


def zero_extend(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


CHECKPOINT_FILES = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "trainer_state.json",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "training_args.bin",
)


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
@pytest.mark.parametrize("damage", [Path.unlink, truncate, lambda path: path.write_bytes(b"")])
def test_a_checkpoint_with_one_damaged_file_is_not_complete(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    path = write_checkpoint(tmp_path, 100)
    assert checkpoint.inspect(path).complete
    damage(path / name)
    (problem,) = checkpoint.inspect(path).problems
    assert problem.startswith(f"{name} ")


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_an_archive_extended_with_zeros_is_not_complete(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path, 100)
    zero_extend(path / name)
    assert not checkpoint.inspect(path).complete


@pytest.mark.parametrize("state", ['{"global_step": 99}', '{"global_step": "100"}', "{}", "[]", "100"])
def test_the_step_must_be_the_one_in_the_name(tmp_path: Path, state: str) -> None:
    path = write_checkpoint(tmp_path, 100)
    (path / "trainer_state.json").write_text(state, encoding="utf-8")
    assert checkpoint.inspect(path).problems[0].startswith("trainer_state.json")


# --- safetensors and adapters ----------------------------------------------------------------------


def test_the_headers_of_the_real_library_are_read(tmp_path: Path) -> None:
    real = pytest.importorskip("safetensors.numpy")
    real.save_file({"b": np.ones((3, 2), np.float32), "a": np.ones(5, np.float16)}, tmp_path / "x.safetensors")
    entries = {each.name: each for each in safetensors.parse(tmp_path / "x.safetensors")}
    assert (entries["a"].dtype, entries["a"].shape, entries["b"].shape) == ("F16", (5,), (3, 2))


@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        *[("BOOL", 1), ("U8", 1), ("I8", 1), ("U16", 2), ("I16", 2), ("U32", 4), ("I32", 4), ("U64", 8), ("I64", 8)],
        *[("F16", 2), ("BF16", 2), ("F32", 4), ("F64", 8), ("C64", 8)],
        *[("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1), ("F8_E4M3FNUZ", 1), ("F8_E5M2FNUZ", 1)],
    ],
)
def test_every_type_of_the_format_has_its_width(tmp_path: Path, dtype: str, width: int) -> None:
    """The names and sizes of the reference implementation, version 0.8."""
    path = tmp_path / "x.safetensors"
    text = json.dumps({"a": {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * width]}})
    for more in (-1, 0, 1):
        path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(3 * width + more))
        if more == 0:
            assert [(each.dtype, each.shape) for each in safetensors.parse(path)] == [(dtype, (3,))]
        else:
            with pytest.raises(safetensors.SafetensorsError):
                safetensors.parse(path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"a": 1}',
        '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        '{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": {}}',
        '{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(4))
    with pytest.raises(safetensors.SafetensorsError):
        safetensors.parse(path)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_trained_adapter_has_no_problems(tmp_path: Path, dtype: str) -> None:
    found = adapter.inspect(write_adapter(tmp_path, lora(), dtype))
    assert found.problems == ()
    assert (found.rank, found.matrices, found.parameters) == (4, 8, 4 * (4 * 32 + 16 * 4))


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [
        ("Qwen2ForCausalLM", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
        ("Phi3ForCausalLM", ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    ],
)
def test_an_adapter_has_as_many_parameters_as_predicted(architecture: str, targets: list[str]) -> None:
    config = {
        "architectures": [architecture],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config |= {"num_key_value_heads": 1, "intermediate_size": 48, "vocab_size": 9, "head_dim": 16}
    shape = model_shape.from_config(config)
    settings = read_lora({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": targets})
    wanted, _ = adapter_tensors.expected(settings, parameters.of(shape))
    assert sum(map(math.prod, wanted.values())) == model_shape.lora_parameters(shape, 4)


NAME = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.update({NAME: np.zeros((16, 4))}), "never received a gradient"),
        (lambda t: t.update({NAME: np.full((16, 4), np.nan)}), "holds NaN"),
        (lambda t: t.update({NAME.replace("_B", "_A"): np.full((4, 32), np.inf)}), "infinity"),
        (lambda t: t.update({NAME: np.ones((16, 8))}), "expected 16 x 4"),
        (lambda t: t.update({NAME: np.ones((0, 4))}), "is empty"),
        (lambda t: t.pop(NAME), "1 of 8 tensors are missing"),
        (lambda t: [t.pop(name) for name in list(t) if "lora_B" in name], "4 of 8 tensors are missing"),
        (lambda t: t.clear(), "no tensor"),
    ],
)
def test_an_adapter_that_is_not_trained_says_why(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    tensors = lora()
    change(tensors)
    assert named in "; ".join(adapter.inspect(write_adapter(tmp_path, tensors)).problems)


def test_an_adapter_that_is_damaged_or_missing_is_never_trained(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "adapter", lora())
    truncate(path / "adapter_model.safetensors")
    assert adapter.inspect(path).problems
    (path / "adapter_model.safetensors").unlink()
    with pytest.raises(BadInput):
        adapter.inspect(path)
    shutil.rmtree(path)
    with pytest.raises(BadInput):
        adapter.inspect(path)
    (write_adapter(path, lora()) / "adapter_config.json").write_text('{"r": "many"}', encoding="utf-8")
    assert adapter.inspect(path).problems


@pytest.mark.parametrize("content", [b"", None])
def test_a_file_without_bytes_is_not_mapped(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read"):
        scales.map_bytes(tmp_path / "model.gguf")
