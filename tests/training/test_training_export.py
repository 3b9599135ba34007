"""The exported file is the trained model: by an independent reader, by a llama.cpp runtime, and by its own judge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forex import base as base_model
from forex import chat, export, ggml, gguf_model, manifest, merged, template, verify
from forex.config import Model
from forex.errors import ExportDefect
from forex.rows import Example
from forex.weights import Weights
from hypothesis import given
from hypothesis import strategies as st

GGUF = "models/output/final/small.Q8_0.gguf"


def spoken(base: Path) -> chat.Chat:
    return chat.of(base_model.tokenizer(base), Model())


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=64, max_size=64),
    st.sampled_from([1.0, 1e-3, 1e-8, 127.0]),
)
def test_q8_0_bytes_are_those_of_the_reference(values: list[float], scale: float) -> None:
    from gguf import GGMLQuantizationType, quants

    rows = np.array(values, dtype=np.float32).reshape(2, 32) * np.float32(scale)
    rows[np.abs(rows) < 1e-30] = 0  # below, the reference divides by a scale whose inverse overflows
    wanted = quants.quantize(rows, GGMLQuantizationType.Q8_0)
    assert ggml.encode(ggml.Type.Q8_0, torch.from_numpy(rows)).tobytes() == wanted.tobytes()


def test_q8_0_rounds_halves_away_from_zero_as_the_reference() -> None:
    from gguf import GGMLQuantizationType, quants

    halves = torch.tensor([[127.0, *(at / 2 for at in range(-16, 15))], [0.0] * 32])
    wanted = quants.quantize(halves.numpy(), GGMLQuantizationType.Q8_0)
    assert ggml.encode(ggml.Type.Q8_0, halves).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kind", ["Q8_0", "F16", "F32"])
def test_what_is_encoded_decodes_to_nearly_the_same(kind: str) -> None:
    torch.manual_seed(0)
    rows = torch.randn(4, 64)
    again = ggml.decode(ggml.Type[kind], ggml.encode(ggml.Type[kind], rows), 64)
    assert np.abs(again - rows.numpy()).max() <= {"Q8_0": 0.02, "F16": 0.002, "F32": 0.0}[kind]


def test_a_block_too_small_for_any_scale_is_zeros() -> None:
    assert not ggml.encode(ggml.Type.Q8_0, torch.full((1, 32), 1e-40)).any()


def test_rows_that_do_not_fill_blocks_are_refused() -> None:
    with pytest.raises(ExportDefect, match="no multiple of 32"):
        ggml.row_bytes(ggml.Type.Q8_0, 48)


SEVEN_B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
}


@pytest.mark.parametrize(
    ("quantization", "size"), [("F16", 15_231_899_648), ("Q8_0", 8_092_571_648), ("Q4_K_M", 4_677_120_000)]
)
def test_the_real_models_sizes_are_predicted_to_the_byte(quantization: str, size: int) -> None:
    from forex import disk

    assert len(gguf_model.expected(SEVEN_B)) == 339
    assert disk.gguf_bytes(SEVEN_B, quantization) == size


def test_the_real_adapters_size_is_predicted_to_the_byte() -> None:
    from forex import config, disk

    assert disk.lora_bytes(config.load(None, batch_size=32), SEVEN_B) == 4 * 161_480_704


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, "GemmaForCausalLM is not exported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope scaling of type yarn"),
    ],
)
def test_a_model_that_cannot_be_exported_is_refused(change: dict[str, Any], said: str) -> None:
    described = {**SEVEN_B, "max_position_embeddings": 9, "rms_norm_eps": 1e-6, **change}
    with pytest.raises(ExportDefect, match=said):
        gguf_model.metadata(described, name="x", quantization="Q8_0")


# --- with a real, finished run ---------------------------------------------------------------


@pytest.fixture
def source(finished: Path) -> export.Source:
    base = finished / "models/base"
    return export.Source.of(base, finished / "models/output/adapter", spoken(base))


@pytest.mark.slow
def test_an_independent_reader_finds_the_model_and_its_tokenizer(finished: Path, source: export.Source) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(finished / GGUF)
    assert {tensor.name for tensor in reader.tensors} == set(gguf_model.expected(source.config))

    def text(key: str) -> str:
        return str(reader.fields[key].contents())

    assert text("general.architecture") == "qwen2"
    assert text("tokenizer.ggml.pre") == "deepseek-r1-qwen"
    assert text("tokenizer.chat_template") == template.CHAT_TEMPLATE
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    assert tokens == source.chat.tokenizer.convert_ids_to_tokens(range(len(source.chat.tokenizer)))
    assert reader.fields["tokenizer.ggml.eos_token_id"].contents() == source.chat.tokenizer.eos_token_id
    assert reader.fields["tokenizer.ggml.bos_token_id"].contents() == source.chat.tokenizer.bos_token_id


def merged_model(finished: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(finished / "models/base", dtype=torch.float32)
    return PeftModel.from_pretrained(base, str(finished / "models/output/adapter")).merge_and_unload().eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_stream_merges_as_peft_does(finished: Path, source: export.Source) -> None:
    wanted = merged_model(finished).state_dict()
    base = Weights(source.base)
    with Weights(source.base, source.adapter) as weights:
        changed = 0
        for name, shape in weights.shapes().items():
            ours = weights.rows(name, 0, shape[0])
            assert torch.allclose(ours, wanted[name], atol=1e-5), name
            changed += not torch.equal(ours, base.rows(name, 0, shape[0]))
    assert changed == 7 * 2  # seven projections in each of two layers, and nothing else


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_llama_cpp_runtime_says_what_transformers_says(finished: Path, source: export.Source) -> None:
    import xllamacpp

    row = json.loads((finished / "data/forex_integrated/eval_feature_examples.jsonl").read_text().splitlines()[0])
    (ids,) = source.chat.prompts([Example(row["prompt"], "UP")])
    wanted = merged_model(finished).generate(
        torch.tensor([ids]), max_new_tokens=24, do_sample=False, pad_token_id=source.chat.tokenizer.pad_token_id
    )[0, len(ids) :]
    params = xllamacpp.CommonParams()
    params.model.path = str(finished / GGUF)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, -1
    params.cpuparams.n_threads = 1
    server = xllamacpp.Server(params)
    asked = {"n_predict": 24, "temperature": 0, "prompt": ids}
    answer = server.handle_completions(asked)
    assert answer["choices"][0]["text"] == source.chat.tokenizer.decode(wanted, skip_special_tokens=True)
    # The runtime's own tokenizer, given the text, comes to the same ids: as many, and the same answer.
    spelled = server.handle_completions({**asked, "prompt": template.prompt_text(row["prompt"])})
    assert spelled["usage"]["prompt_tokens"] == len(ids)
    assert spelled["choices"][0]["text"] == answer["choices"][0]["text"]


@pytest.mark.slow
def test_the_manifest_lists_what_is_there_and_notices_one_changed_byte(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    listed = json.loads(Path("MANIFEST.json").read_text(encoding="utf-8"))
    assert listed["contract"] == 1
    assert listed["steps"] == {"sft": 7, "dpo": 4}
    assert {file["kind"] for file in listed["files"]} == {"gguf", "adapter", "trainer_state", "modelfile", "run"}
    assert manifest.holds(Path("MANIFEST.json"), [Path(GGUF)])
    assert not manifest.holds(Path("MANIFEST.json"), [Path("other.gguf")])
    file = Path("models/output/final/Modelfile")
    before = file.read_bytes()
    file.write_bytes(before.replace(b"0", b"1", 1))
    try:
        assert not manifest.holds(Path("MANIFEST.json"), [Path(GGUF)])
    finally:
        file.write_bytes(before)


@pytest.fixture
def judged(finished: Path, source: export.Source, tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A copy of the exported file, and its judge."""
    copy = tmp_path / "copy.gguf"
    shutil.copyfile(finished / GGUF, copy)
    tensors = gguf_model.tensors(source.config, "Q8_0")
    head = export.header(source, "Q8_0", "small")
    with Weights(source.base, source.adapter) as weights:
        rows = merged.Rows(weights, tensors, source.config)
        yield copy, lambda: verify.verify(copy, head, tensors, rows)


@pytest.mark.slow
def test_the_judge_passes_the_whole_file(judged: tuple[Path, Any]) -> None:
    judged[1]()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("cut", "its tensors end at"),
        ("junk", "its tensors end at"),
        ("cut and filled", "the file says 0"),
        ("zero tensor", "the file says 0"),
        ("nan scale", "not a finite number"),
        ("base instead of merged", "the merged model"),
        ("eos id", "not the one that was written"),
        ("magic", "not the one that was written"),
        ("version", "not the one that was written"),
        ("offset", "not the one that was written"),
    ],
)
def test_the_judge_names_each_damage(judged: tuple[Path, Any], source: export.Source, damage: str, said: str) -> None:
    path, judge = judged
    data = bytearray(path.read_bytes())
    tensors, head = gguf_model.tensors(source.config, "Q8_0"), export.header(source, "Q8_0", "small")
    tensor = next(tensor for tensor in tensors if tensor.name == "blk.1.ffn_up.weight")
    at = len(head) + tensor.offset
    if damage == "cut":
        del data[-40:]
    elif damage == "junk":
        data += bytes(32)
    elif damage == "cut and filled":
        data[-4000:] = bytes(4000)
    elif damage == "zero tensor":
        data[at : at + tensor.size] = bytes(tensor.size)
    elif damage == "nan scale":
        data[at + 34 * 5 : at + 34 * 5 + 2] = b"\x00\x7e"
    elif damage == "base instead of merged":
        with Weights(source.base) as base:
            rows = base.rows("model.layers.1.mlp.up_proj.weight", 0, tensor.shape[0])
        data[at : at + tensor.size] = ggml.encode(ggml.Type.Q8_0, rows).tobytes()
    elif damage == "eos id":
        key = b"tokenizer.ggml.eos_token_id"
        data[data.index(key) + len(key) + 4] ^= 1
    elif damage == "magic":
        data[0] = 0
    elif damage == "version":
        data[4] = 2
    else:
        name = b"blk.1.ffn_up.weight"
        data[data.index(name) + len(name) + 4 + 16 + 4] ^= 32
    path.write_bytes(bytes(data))
    with pytest.raises(ExportDefect, match=said):
        judge()


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["Q8_0", "F16"])
def test_the_judge_finds_a_hole_between_the_rows_it_samples(
    source: export.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    monkeypatch.setattr(merged, "_BLOCK_ELEMENTS", 256)  # four rows of sixty-four: many spans in a small tensor
    path = tmp_path / "holed.gguf"
    export.write(source, path, quantization=quantization, name="small")
    tensors, head = gguf_model.tensors(source.config, quantization), export.header(source, quantization, "small")
    tensor = next(tensor for tensor in tensors if tensor.name == "blk.1.ffn_up.weight")
    row = tensor.size // tensor.shape[0]
    with path.open("r+b") as file:
        file.seek(len(head) + tensor.offset + 20 * row)
        file.write(bytes(row))
    with Weights(source.base, source.adapter) as weights:
        rows = merged.Rows(weights, tensors, source.config)
        with pytest.raises(ExportDefect, match=r"blk\.1\.ffn_up\.weight, row 20: the file says 0, the merged model"):
            verify.verify(path, head, tensors, rows)


@pytest.mark.slow
def test_an_export_that_fails_leaves_no_file_with_the_final_name(
    source: export.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(rows: torch.Tensor) -> Any:
        return original(rows * 1.1)

    original = ggml._q8_0
    monkeypatch.setattr(ggml, "_q8_0", wrong)
    target = tmp_path / "x.gguf"
    with pytest.raises(ExportDefect, match="the merged model"):
        export.write(source, target, quantization="Q8_0", name="small")
    assert not target.exists()


@pytest.mark.slow
def test_f16_is_written_too(source: export.Source, tmp_path: Path) -> None:
    from gguf import GGUFReader

    written = export.write(source, tmp_path / "x.F16.gguf", quantization="F16", name="small")
    assert written.size == written.path.stat().st_size
    kinds = {tensor.tensor_type.name for tensor in GGUFReader(written.path).tensors}
    assert kinds == {"F16", "F32"}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> export.Source:
    """A base model whose rows fill the K-quants' blocks of 256."""
    from forex.config import Model, Shape

    shape = Shape(hidden_size=256, intermediate_size=256, num_hidden_layers=3, vocab_size=400)
    folder = tmp_path_factory.mktemp("wide") / "base"
    path = base_model.directory(Model(name=str(folder), built=shape), ["EURUSD +0.33%"] * 5, 3)
    return export.Source.of(path, None, spoken(path))


@pytest.mark.slow
def test_q4_k_m_is_llama_cpps_mix_and_reads_back_as_the_model(wide: export.Source, tmp_path: Path) -> None:
    from gguf import GGUFReader, quants

    written = export.write(wide, tmp_path / "x.Q4_K_M.gguf", quantization="Q4_K_M", name="wide")
    tensors = {tensor.name: tensor for tensor in GGUFReader(written.path).tensors}
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["output.weight"] == "Q6_K"
    assert kinds["token_embd.weight"] == "Q4_K"
    # Three layers: the last eighth (from layer 2 on) and every third after the first eighth get more bits.
    assert [kinds[f"blk.{layer}.attn_v.weight"] for layer in range(3)] == ["Q4_K", "Q4_K", "Q6_K"]
    assert kinds["blk.0.attn_q.bias"] == "F32"
    with Weights(wide.base) as weights:
        for ours, theirs in (
            ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"),
            ("output.weight", "lm_head.weight"),
        ):
            read = quants.dequantize(tensors[ours].data, tensors[ours].tensor_type)
            wanted = weights.rows(theirs, 0, read.shape[0]).numpy()
            assert np.abs(read - wanted).max() < 0.15 * np.abs(wanted).max()


def test_k_quants_without_the_library_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml, "_library", lambda: None)
    with pytest.raises(ExportDefect, match="pip install xllamacpp, or export Q8_0"):
        ggml.encode(ggml.Type.Q4_K, torch.zeros(1, 256))


@pytest.mark.slow
def test_what_could_not_be_exported_is_refused_before_the_training(
    wide: export.Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    export.refuse_impossible(wide, ("Q8_0", "Q4_K_M"), "x")
    with pytest.raises(ExportDefect, match=r"blk\.3.* missing from the base model"):
        export.refuse_impossible(replace(wide, config={**wide.config, "num_hidden_layers": 4}), ("Q8_0",), "x")
    narrow = {**wide.config, "intermediate_size": 128}
    with pytest.raises(ExportDefect, match="no multiple of 256"):
        export.refuse_impossible(replace(wide, config=narrow), ("Q4_K_M",), "x")
    monkeypatch.setattr(ggml, "_library", lambda: None)
    with pytest.raises(ExportDefect, match="pip install xllamacpp"):
        export.refuse_impossible(wide, ("Q8_0", "Q4_K_M"), "x")


@pytest.mark.slow
def test_a_llama_model_is_exported_as_the_runtime_rotates_it(tmp_path: Path, wide: export.Source) -> None:
    import xllamacpp
    from transformers import LlamaConfig, LlamaForCausalLM

    words = wide.chat.tokenizer
    torch.manual_seed(3)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            initializer_range=0.3,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
        )
    ).eval()
    base = tmp_path / "llama"
    model.save_pretrained(base)
    words.save_pretrained(base)
    source = export.Source.of(base, None, spoken(base))
    written = export.write(source, tmp_path / "x.F16.gguf", quantization="F16", name="llama")
    (ids,) = source.chat.prompts([Example("EURUSD +0.33%", "UP")])
    wanted = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=words.pad_token_id)
    params = xllamacpp.CommonParams()
    params.model.path = str(written.path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 128, 1, False, -1
    params.cpuparams.n_threads = 1
    answer = xllamacpp.Server(params).handle_completions({"n_predict": 12, "temperature": 0, "prompt": ids})
    assert answer["choices"][0]["text"] == words.decode(wanted[0, len(ids) :], skip_special_tokens=True)
