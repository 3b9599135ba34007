"""An adapter's folder: weights that are missing are a finding, and of a base that is not known there is a doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.artifacts import adapter
from harness.core.errors import BadInput
from harness.core.verdict import Verdict
from tests.support.checkpoint_files import tensors

CONFIG = '{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}'


@pytest.mark.parametrize(
    ("beside", "verdict", "says"),
    [
        ({}, Verdict.FAIL, "adapter_model.safetensors is not there"),
        ({"README.md": b"weights to come"}, Verdict.FAIL, "adapter_model.safetensors is not there"),
        ({"adapter_model.bin": b"PK"}, Verdict.UNKNOWN, "adapter_model.bin is a pickle, which is not read here"),
        ({"adapter_model.safetensors": b""}, Verdict.FAIL, "adapter_model.safetensors"),
    ],
)
def test_weights_that_are_missing_are_a_finding(
    tmp_path: Path, beside: dict[str, bytes], verdict: Verdict, says: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(CONFIG, encoding="utf-8")
    for name, data in beside.items():
        (tmp_path / name).write_bytes(data)
    found = {finding.id: finding for finding in adapter.judge(tmp_path, None)}
    assert found["adapter_tensors"].verdict is verdict
    assert says in found["adapter_tensors"].seen


STEM = "base_model.model.model.layers.0.self_attn.q_proj"
ONES = b"\0\0\x80\x3f"
BASE = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "intermediate_size": 8,
    "vocab_size": 30,
}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (tmp_path / "adapter_config.json").write_text(CONFIG, encoding="utf-8")
    halves = ((f"{STEM}.lora_A.weight", [8, 4]), (f"{STEM}.lora_B.weight", [4, 8]))
    tensors(tmp_path / "adapter_model.safetensors", *[(name, "F32", shape, ONES * 32) for name, shape in halves])
    return tmp_path


def test_a_base_that_is_not_known_is_a_doubt_where_it_matters(whole: Path) -> None:
    doubt = "the base model is not known, so no module of it can be missed"
    assert adapter.inspect(whole).doubts == (doubt,)
    assert adapter.inspect(whole, base_matters=False).doubts == ()
    other = {"architectures": ["Other"]}
    for matters in (True, False):
        assert adapter.inspect(whole, BASE, base_matters=matters).doubts == ()
        (told,) = adapter.inspect(whole, other, base_matters=matters).doubts
        assert told.startswith("the base model's modules cannot be told")
    found = adapter.inspect(whole, BASE)
    assert (found.rank, found.matrices, found.parameters, found.problems) == (8, 2, 64, ())


def test_doubts_about_the_configuration_stay_where_the_base_does_not_matter(whole: Path) -> None:
    (whole / "adapter_config.json").write_text(CONFIG.replace("{", '{"use_qalora": true, ', 1), encoding="utf-8")
    (told,) = adapter.inspect(whole, base_matters=False).doubts
    assert "use_qalora" in told


@pytest.mark.parametrize(
    ("text", "rank", "problems", "doubts"),
    [
        ("{", 0, 1, 0),
        ("[" * 100_000, 0, 1, 0),
        (CONFIG.replace("LORA", "IA3"), 0, 0, 1),
        (CONFIG.replace("8", "0"), 0, 1, 0),
    ],
    ids=["cut", "nested deeply", "another kind", "rank 0"],
)
def test_a_configuration_that_does_not_read_is_told_and_nothing_of_its_tensors(
    whole: Path, text: str, rank: int, problems: int, doubts: int
) -> None:
    (whole / "adapter_config.json").write_text(text, encoding="utf-8")
    found = adapter.inspect(whole, BASE)
    assert (found.rank, found.matrices, found.parameters) == (rank, 0, 0)
    assert (len(found.problems), len(found.doubts)) == (problems, doubts)
    assert all(said.removeprefix("adapter_config.json: ").strip() for said in (*found.problems, *found.doubts))
    first, *others = adapter.judge(whole, BASE)
    assert (first.id, first.verdict) == ("adapter_config", Verdict.FAIL if problems else Verdict.UNKNOWN)
    assert {(one.verdict, one.seen) for one in others} == {(Verdict.UNKNOWN, "see above")}


def test_a_folder_in_the_place_of_the_weights_cannot_be_read(whole: Path) -> None:
    (whole / "adapter_model.safetensors").unlink()
    (whole / "adapter_model.safetensors").mkdir()
    for look in (adapter.inspect, adapter.judge):
        with pytest.raises(BadInput, match=r"adapter_model\.safetensors cannot be read: Is a dir"):
            look(whole, BASE)


def test_the_findings_of_a_whole_adapter_say_what_was_seen(whole: Path) -> None:
    found = adapter.judge(whole, BASE)
    ids = ["adapter_config", "adapter_tensors", "adapter_numbers", "adapter_trained"]
    assert [one.id for one in found] == ids
    assert {(one.verdict, one.seen, one.remedy) for one in found} == {(Verdict.PASS, "2 tensors", "")}
    of_itself = {one.id: one for one in adapter.judge(whole, None)}
    assert of_itself["adapter_tensors"].verdict is Verdict.UNKNOWN
    assert of_itself["adapter_tensors"].remedy == "name the base model's directory with --config"
    assert of_itself["adapter_config"].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "raw", "finding", "words"),
    [
        (f"{STEM}.lora_B.weight", "F32", [4, 8], bytes(128), "adapter_trained", "is all zeros: it never received"),
        (f"{STEM}.lora_B.bias", "F32", [4], bytes(16), "", ""),
        (f"{STEM}.lora_A.weight", "F32", [8, 4], bytes(128), "adapter_numbers", "is all zeros"),
        (f"{STEM}.lora_A.weight", "F32", [136], ONES * 8 + bytes(512), "adapter_numbers", "has a run of zeros in it"),
        (f"{STEM}.lora_B.weight", "F32", [136], ONES * 8 + bytes(512), "", ""),
        (f"{STEM}.lora_A.weight", "F32", [1], b"\0\0\xc0\x7f", "adapter_numbers", "holds NaN"),
        (f"{STEM}.lora_A.weight", "I8", [4], b"\1" * 4, "adapter_tensors", "is I8, not of floating point"),
        (f"{STEM}.lora_A.weight", "F32", [8, 0], b"", "adapter_tensors", "is empty"),
        (f"{STEM}.lora_A.weight", "F32", [], ONES, "adapter_tensors", "is a lone number, expected 8 x 4"),
    ],
)
def test_what_the_numbers_of_one_tensor_say(
    whole: Path, *, name: str, dtype: str, shape: list[int], raw: bytes, finding: str, words: str
) -> None:
    tensors(whole / "adapter_model.safetensors", (name, dtype, shape, raw))
    told = {one.id: one.seen for one in adapter.judge(whole, BASE) if one.verdict is Verdict.FAIL}
    assert words in told.get(finding, "")
    assert told.keys() <= {"adapter_tensors", *([finding] if finding else [])}


def test_of_many_damaged_tensors_three_are_named_and_no_name_fills_the_screen(whole: Path) -> None:
    names = [f"{number}{'x' * 300}" for number in range(4)]
    tensors(whole / "adapter_model.safetensors", *[(name, "I8", [4], b"\1" * 4) for name in names])
    found = {one.id: one.seen for one in adapter.judge(whole, None)}["adapter_tensors"]
    assert found == "; ".join(f"{name[:160]} is I8, not of floating point" for name in names[:3])
