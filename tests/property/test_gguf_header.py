"""The strict header parser: what gguf-py writes is read back, and no damage of a header passes for a whole file."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf as writer
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.artifacts import gguf, model_shape
from tests.support.model_files import R1_QWEN_7B, TINY, write_gguf

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789._", min_size=1, max_size=60)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
scalars = st.one_of(
    st.tuples(st.just(writer.GGUFValueType.UINT32), st.integers(0, 2**32 - 1)),
    st.tuples(st.just(writer.GGUFValueType.INT64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(writer.GGUFValueType.FLOAT64), st.floats(allow_nan=False)),
    st.tuples(st.just(writer.GGUFValueType.BOOL), st.booleans()),
    st.tuples(st.just(writer.GGUFValueType.STRING), texts),
    st.tuples(st.just(writer.GGUFValueType.ARRAY), st.lists(texts, min_size=1, max_size=5)),
    st.tuples(st.just(writer.GGUFValueType.ARRAY), st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5)),
    st.tuples(st.just(writer.GGUFValueType.ARRAY), st.lists(st.booleans(), min_size=1, max_size=5)),
)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3)
SLOW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@given(st.dictionaries(names, scalars, max_size=6), st.dictionaries(names, shapes, min_size=1, max_size=5))
@SLOW
def test_what_gguf_py_writes_is_read_back(
    tmp_path: Path, metadata: dict[str, tuple[Any, Any]], tensors: dict[str, list[int]]
) -> None:
    path = tmp_path / "a.gguf"
    written = writer.GGUFWriter(path, "any")
    for key, (kind, value) in metadata.items():
        written.add_key_value(f"x.{key}", value, kind)
    for name, shape in tensors.items():
        written.add_tensor(name, np.ones(shape, dtype=np.float32))
    written.write_header_to_file()
    written.write_kv_data_to_file()
    written.write_tensors_to_file()
    written.close()

    header = gguf.parse(path)
    assert header.metadata["general.architecture"] == "any"
    for key, (_, value) in metadata.items():
        seen = header.metadata[f"x.{key}"]
        assert (gguf.read_array(path, seen) if isinstance(seen, gguf.Array) else seen) == value
    assert {each.name: each.shape for each in header.tensors} == {
        name: tuple(reversed(shape)) for name, shape in tensors.items()
    }
    reader = writer.GGUFReader(path)
    assert [header.data_start + each.offset for each in header.tensors] == [each.data_offset for each in reader.tensors]
    del reader


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    config = {**TINY, "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32, "vocab_size": 12}
    return write_gguf(tmp_path_factory.mktemp("small") / "a.gguf", config).read_bytes()


def parsed(data: bytes) -> gguf.Gguf:
    return gguf.parse_stream(io.BytesIO(data), len(data))


@given(st.data())
@SLOW
def test_no_truncation_and_no_extension_is_accepted(small: bytes, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(small) - 1))
    with pytest.raises(gguf.GgufError):
        parsed(small[:size])
    with pytest.raises(gguf.GgufError):
        parsed(small + bytes(data.draw(st.integers(1, 64))))


@given(st.data())
@settings(SLOW, max_examples=400)
def test_a_damaged_header_is_refused_or_says_something_else(small: bytes, data: st.DataObject) -> None:
    """Any byte of the header, changed: an error that is understood, or a header that differs; never the same one."""
    whole = parsed(small)
    at = data.draw(st.integers(0, whole.data_start - 1))
    damaged = bytearray(small)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        seen = parsed(bytes(damaged))
    except gguf.GgufError:
        return
    differs = (seen.metadata, seen.tensors) != (whole.metadata, whole.tensors)
    # Two kinds of bytes may change unseen: what an array holds, and a value's type (7 as uint32 or as int32).
    assert differs or _inside_an_array(whole, at) or small[at] <= 12


def _inside_an_array(header: gguf.Gguf, at: int) -> bool:
    return any(isinstance(each, gguf.Array) and each.start <= at < each.end for each in header.metadata.values())


@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, b"GGUF" + noise, b"GGUF\3\0\0\0" + noise):
        with pytest.raises(gguf.GgufError):
            parsed(data + b"\1")


def test_counts_that_lie_cost_nothing(small: bytes) -> None:
    key = b"tokenizer.ggml.tokens"
    at = small.index(key) + len(key) + 8
    lying = small[:at] + (2**62).to_bytes(8, "little") + small[at + 8 :]
    with pytest.raises(gguf.GgufError, match="more than the file can hold"):
        parsed(lying)


def test_a_summary_is_json_whatever_the_file_says(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", TINY, change=lambda w: w.add_float32("x.odd", float("nan")))
    summary = json.loads(json.dumps(gguf.summary(gguf.parse(path)), allow_nan=False))
    assert summary["metadata"]["tokenizer.ggml.tokens"] == {"array": "string", "length": 300}
    assert summary["data_bytes"] == model_shape.data_bytes(model_shape.from_config(TINY), "Q8_0")


def test_the_parser_runs_alone(tmp_path: Path) -> None:
    """Its source is sent to the box: it must need nothing but itself and the standard library."""
    path = write_gguf(tmp_path / "a.gguf", TINY)
    source = Path(str(gguf.__file__)).read_text(encoding="utf-8")
    program = source + "\nimport sys\nprint(len(parse(sys.argv[1]).tensors))\n"
    command = [sys.executable, "-I", "-S", "-c", program, str(path)]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip() == "27"


@pytest.mark.parametrize(
    ("quantization", "size"),
    [("F16", 15_231_899_648), ("BF16", 15_231_899_648), ("Q8_0", 8_092_571_648), ("Q4_K_M", 4_677_120_000)],
)
def test_the_real_model_is_predicted_to_the_byte(quantization: str, size: int) -> None:
    """DeepSeek-R1-Distill-Qwen-7B as llama.cpp's own converter and quantiser write it."""
    shape = model_shape.from_config(R1_QWEN_7B)
    assert model_shape.data_bytes(shape, quantization) == size
    assert len(model_shape.predict(shape, quantization)) == 339
    assert model_shape.parameters(shape) == 7_615_616_512
    assert model_shape.lora_parameters(shape, 64) == 161_480_704


def test_q4_k_m_gives_some_layers_more_bits() -> None:
    types = {each.name: each.type for each in model_shape.predict(model_shape.from_config(R1_QWEN_7B), "Q4_K_M")}
    more = {layer for layer in range(28) if types[f"blk.{layer}.ffn_down.weight"] == "Q6_K"}
    assert more == {0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27}
    assert more == {layer for layer in range(28) if types[f"blk.{layer}.attn_v.weight"] == "Q6_K"}
    assert types["output.weight"] == "Q6_K"
    assert types["token_embd.weight"] == "Q4_K"


@given(
    heads=st.integers(1, 8),
    head=st.sampled_from([16, 64]),
    layers=st.integers(1, 4),
    tied=st.booleans(),
    llama=st.booleans(),
)
@settings(max_examples=20)
def test_parameters_and_float_bytes_agree(heads: int, head: int, layers: int, tied: bool, llama: bool) -> None:
    config = {
        "architectures": ["LlamaForCausalLM" if llama else "Qwen2ForCausalLM"],
        "hidden_size": heads * head,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 100,
        "tie_word_embeddings": tied,
    }
    shape = model_shape.from_config(config)
    assert model_shape.data_bytes(shape, "F32") == 4 * model_shape.parameters(shape)
    biases = [each for each in model_shape.predict(shape, "F32") if each.name.endswith(".bias")]
    assert len(biases) == (0 if llama else 3 * layers)
    assert ("output.weight" in {each.name for each in model_shape.predict(shape, "F32")}) is not tied
