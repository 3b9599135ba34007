"""Every damage that a model file was seen with, on a real GGUF: each is stopped by the finding meant for it."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as writer
import pytest

from harness.artifacts import digest, expectation, gguf, model_shape
from harness.artifacts.expectation import Expectation
from harness.artifacts.verify import verify_file
from harness.core.errors import BadInput
from harness.core.finding import Finding
from harness.core.verdict import Verdict
from tests.support.model_files import TINY, tokens, write_gguf, write_training


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_training(folder / "training", TINY)
    return write_gguf(folder / "model.gguf", TINY)


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "model.gguf"))


@pytest.fixture
def known(whole: Path) -> Expectation:
    return expectation.of(whole.parent / "training", "quant=Q8_0")


def not_passed(findings: tuple[Finding, ...]) -> set[str]:
    assert len(findings) > 0
    return {finding.id for finding in findings if finding.verdict is not Verdict.PASS}


def tensor(path: Path, name: str) -> tuple[int, gguf.Tensor]:
    """A tensor and the byte of the file where its data begins."""
    header = gguf.parse(path)
    found = next(each for each in header.tensors if each.name == name)
    return header.data_start + found.offset, found


def overwrite(path: Path, position: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)


def replace_once(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1, old
    path.write_bytes(data.replace(old, new))


def cut(path: Path, count: int, *, extend: bool = False) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - count)
        if extend:
            file.truncate(size)


def entry_of(path: Path, name: str) -> int:
    """Where the tensor table states the number of dimensions of a tensor."""
    data = path.read_bytes()
    stated = struct.pack("<Q", len(name)) + name.encode()
    assert data.count(stated) == 1
    return data.index(stated) + len(stated)


def zero(path: Path, name: str) -> None:
    start, found = tensor(path, name)
    overwrite(path, start, bytes(found.nbytes))


def nan_scale(path: Path, name: str, block: int) -> None:
    start, _ = tensor(path, name)
    overwrite(path, start + block * 34, struct.pack("<e", float("nan")))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut by 100 kB": (lambda path: cut(path, 100_000), "well_formed"),
    "cut by 40 bytes": (lambda path: cut(path, 40), "well_formed"),
    "cut by 1 byte": (lambda path: cut(path, 1), "well_formed"),
    "cut and zero-extended by 100 kB": (lambda path: cut(path, 100_000, extend=True), "weights_present"),
    "cut and zero-extended by 40 bytes": (lambda path: cut(path, 40, extend=True), "weights_present"),
    "zeros of the right size": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "well_formed"),
    "empty": (lambda path: path.write_bytes(b""), "well_formed"),
    "bad magic": (lambda path: overwrite(path, 0, b"GGML"), "well_formed"),
    "version 2": (lambda path: overwrite(path, 4, struct.pack("<I", 2)), "well_formed"),
    "version 4": (lambda path: overwrite(path, 4, struct.pack("<I", 4)), "well_formed"),
    "byte order turned": (lambda path: overwrite(path, 4, struct.pack(">I", 3)), "well_formed"),
    "junk appended": (lambda path: path.write_bytes(path.read_bytes() + b"junk"), "well_formed"),
    "one tensor all zeros": (lambda path: zero(path, "blk.1.ffn_up.weight"), "weights_present"),
    "a norm all zeros": (lambda path: zero(path, "blk.0.attn_norm.weight"), "weights_present"),
    "one bias all zeros": (lambda path: zero(path, "blk.1.attn_k.bias"), "weights_present"),
    "NaN scale first": (lambda path: nan_scale(path, "blk.0.attn_q.weight", 0), "weights_present"),
    "NaN scale in the middle": (lambda path: nan_scale(path, "blk.1.ffn_down.weight", 1777), "weights_present"),
    "infinite norm": (
        lambda path: overwrite(path, tensor(path, "output_norm.weight")[0] + 8, struct.pack("<f", float("inf"))),
        "weights_present",
    ),
    "tensor count less one": (lambda path: overwrite(path, 8, struct.pack("<Q", 26)), "well_formed"),
    "tensor count of 2**60": (lambda path: overwrite(path, 8, struct.pack("<Q", 1 << 60)), "well_formed"),
    "metadata count of 2**60": (lambda path: overwrite(path, 16, struct.pack("<Q", 1 << 60)), "well_formed"),
    "tensor shape": (
        lambda path: overwrite(path, entry_of(path, "blk.0.attn_q.weight") + 12, struct.pack("<Q", 255)),
        "well_formed",
    ),
    "tensor transposed": (
        lambda path: overwrite(path, entry_of(path, "blk.0.ffn_up.weight") + 4, struct.pack("<QQ", 512, 256)),
        "tensors_as_predicted",
    ),
    "tensor type": (
        lambda path: overwrite(path, entry_of(path, "blk.0.attn_q.weight") + 20, struct.pack("<I", 2)),
        "well_formed",
    ),
    "tensor type of the same size": (
        lambda path: overwrite(path, entry_of(path, "blk.0.attn_norm.weight") + 12, struct.pack("<I", 26)),
        "tensors_as_predicted",
    ),
    "unknown type": (
        lambda path: overwrite(path, entry_of(path, "blk.0.attn_q.weight") + 20, struct.pack("<I", 99)),
        "well_formed",
    ),
    "tensor offset": (
        lambda path: overwrite(path, entry_of(path, "blk.0.attn_q.weight") + 24, struct.pack("<Q", 64)),
        "well_formed",
    ),
    "five dimensions": (
        lambda path: overwrite(path, entry_of(path, "blk.0.attn_q.weight"), struct.pack("<I", 5)),
        "well_formed",
    ),
    "two tensors of one name": (
        lambda path: replace_once(path, b"blk.1.attn_q.bias", b"blk.0.attn_q.bias"),
        "well_formed",
    ),
    "another tensor's name": (
        lambda path: replace_once(path, b"blk.1.attn_q.bias", b"blk.7.attn_q.bias"),
        "tensors_as_predicted",
    ),
}


def test_the_whole_file_passes_every_claim(model: Path, known: Expectation) -> None:
    findings = verify_file(model, known)
    assert not_passed(findings) == set()
    assert {finding.id for finding in findings} == {
        "well_formed",
        "tensors_as_predicted",
        "hyperparameters",
        "weights_present",
        "tokenizer_consistent",
        "tokenizer_as_trained",
    }
    assert not_passed(verify_file(model, Expectation())) == set()


@pytest.mark.parametrize("name", DAMAGE)
def test_each_damage_is_stopped_by_the_finding_meant_for_it(model: Path, known: Expectation, name: str) -> None:
    damage, stopped_by = DAMAGE[name]
    damage(model)
    findings = verify_file(model, known)
    assert stopped_by in not_passed(findings)
    assert all(finding.remedy for finding in findings if finding.verdict is not Verdict.PASS)
    assert stopped_by in not_passed(verify_file(model, Expectation())), "without a configuration too"


METADATA: dict[str, tuple[Callable[[Any], Any], str]] = {
    "eos id is an ordinary token": (lambda w: w.add_eos_token_id(77), "tokenizer_consistent"),
    "eos id is another control token": (lambda w: w.add_eos_token_id(1), "tokenizer_as_trained"),
    "eos id beyond the vocabulary": (lambda w: w.add_eos_token_id(300), "tokenizer_consistent"),
    "bos id": (lambda w: w.add_bos_token_id(2), "tokenizer_as_trained"),
    "pad id": (lambda w: w.add_pad_token_id(2), "tokenizer_as_trained"),
    "add_bos": (lambda w: w.add_add_bos_token(True), "tokenizer_as_trained"),
    "chat template": (lambda w: w.add_chat_template("{{ messages }}"), "tokenizer_as_trained"),
    "a token": (lambda w: w.add_token_list([*tokens(300)[:5], "x", *tokens(300)[6:]]), "tokenizer_as_trained"),
    "padding that is none": (lambda w: w.add_token_list([*tokens(300)[:-1], "x"]), "tokenizer_as_trained"),
    "two tokens exchanged": (
        lambda w: w.add_token_list([tokens(300)[1], tokens(300)[0], *tokens(300)[2:]]),
        "tokenizer_as_trained",
    ),
    "one token less": (lambda w: w.add_token_list(tokens(300)[:-1]), "tokenizer_consistent"),
    "one merge less": (lambda w: w.add_token_merges([f"a{n} b{n}" for n in range(299)]), "tokenizer_as_trained"),
    "no pre-tokenizer": (lambda w: w.kv_data[0].pop("tokenizer.ggml.pre"), "tokenizer_consistent"),
    "no token types": (lambda w: w.kv_data[0].pop("tokenizer.ggml.token_type"), "tokenizer_consistent"),
    "no eos id": (lambda w: w.kv_data[0].pop("tokenizer.ggml.eos_token_id"), "tokenizer_consistent"),
    "rope base": (lambda w: w.add_rope_freq_base(1e6), "hyperparameters"),
    "rms epsilon": (lambda w: w.add_layer_norm_rms_eps(1e-5), "hyperparameters"),
    "head count": (lambda w: w.add_head_count(8), "hyperparameters"),
    "context length": (lambda w: w.add_context_length(4096), "hyperparameters"),
    "architecture": (lambda w: w.add_string("general.architecture", "llama"), "hyperparameters"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METADATA)
def test_each_wrong_field_is_stopped(tmp_path: Path, known: Expectation, name: str) -> None:
    change, stopped_by = METADATA[name]
    path = write_gguf(tmp_path / "model.gguf", TINY, change=change)
    assert stopped_by in not_passed(verify_file(path, known))


@pytest.mark.parametrize(("base", "stopped"), [(1e6, {"hyperparameters"}), (1e4, set())])
def test_a_rope_base_that_is_missing_is_llama_cpps_own(tmp_path: Path, base: float, stopped: set[str]) -> None:
    config = {**TINY, "rope_theta": base}
    path = write_gguf(tmp_path / "model.gguf", config, change=lambda w: w.kv_data[0].pop("qwen2.rope.freq_base"))
    assert not_passed(verify_file(path, expectation.of(write_training(tmp_path / "training", config)))) == stopped


@pytest.mark.parametrize("name", ["output.weight", "blk.1.attn_v.bias", "blk.0.ffn_norm.weight"])
def test_a_tensor_that_was_left_out_is_missed(tmp_path: Path, known: Expectation, name: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, leave_out=frozenset({name}))
    finding = next(each for each in verify_file(path, known) if each.id == "tensors_as_predicted")
    assert finding.verdict is Verdict.FAIL
    assert f"{name} is missing" in finding.seen


def test_one_flipped_byte_anywhere_is_stopped_by_the_digest(model: Path) -> None:
    hashed = digest.of_file(model)
    exact = expectation.of(None, f"size={hashed.size}", hashed.sha256)
    assert not_passed(verify_file(model, exact)) == set()
    overwrite(model, hashed.size - 1000, b"\x01")
    overwrite(model, hashed.size - 1001, b"\x02")
    assert not_passed(verify_file(model, exact)) == {"sha256"}


def test_floor_and_size_are_claims_of_their_own(model: Path) -> None:
    size = model.stat().st_size
    assert not_passed(verify_file(model, expectation.of(None, f"min_bytes={size - 1}, size={size}"))) == set()
    assert not_passed(verify_file(model, expectation.of(None, f"over={size}"))) == {"over_floor"}
    assert not_passed(verify_file(model, expectation.of(None, "size=5GB"))) == {"size"}


@pytest.mark.parametrize("quantization", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"])
def test_every_quantization_is_predicted_and_scanned(tmp_path: Path, quantization: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", TINY, quantization)
    known = expectation.of(write_training(tmp_path / "training", TINY), f"quant={quantization}")
    assert not_passed(verify_file(path, known)) == set()
    zero(path, "blk.1.ffn_down.weight")
    assert not_passed(verify_file(path, known)) == {"weights_present"}
    other = "Q8_0" if quantization != "Q8_0" else "F16"
    assert "tensors_as_predicted" in not_passed(verify_file(path, expectation.of(None, f"quant={other}")))


def test_biases_may_be_zero_when_all_of_them_are(model: Path) -> None:
    names = [each.name for each in gguf.parse(model).tensors if each.name.endswith(".bias")]
    for name in names:
        zero(model, name)
    assert not_passed(verify_file(model, Expectation())) == set()


def test_zero_rows_of_the_vocabulary_pass_only_when_they_were_announced(model: Path) -> None:
    start, found = tensor(model, "token_embd.weight")
    overwrite(model, start + found.nbytes - 34 * 400, bytes(34 * 400))
    assert not_passed(verify_file(model, Expectation())) == {"weights_present"}
    assert not_passed(verify_file(model, expectation.of(None, "zero_rows=yes"))) == set()


def test_another_architecture_is_unknown_and_no_pass(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", TINY, change=lambda w: w.add_string("general.architecture", "gemma"))
    finding = next(each for each in verify_file(path, Expectation()) if each.id == "tensors_as_predicted")
    assert finding.verdict is Verdict.UNKNOWN
    assert "gemma" in finding.seen


@pytest.mark.parametrize(
    ("stored", "where"),
    [
        (b"\3\0\0\0\0\0\0\0abc\1\0", "array of strings"),
        (b"\1\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0\0", "array of strings"),
        (b"\3\0\0\0", "array"),
    ],
    ids=["lengths of a changed file", "no text", "shorter"],
)
def test_an_array_of_a_file_that_changed_since_its_header_was_read_is_refused(
    tmp_path: Path, stored: bytes, where: str
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(stored)
    end = len(stored) + (where == "array")
    with pytest.raises(gguf.GgufError) as refused:
        gguf.read_array(path, gguf.Array("string", 2, 0, end))
    assert refused.value.where == where


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a file"):
        verify_file(tmp_path / "nowhere.gguf", Expectation())


@pytest.mark.parametrize("text", ["quant=Q9", "over=big", "over", "colour=red", "zero_rows=maybe", "size=5XB"])
def test_an_expectation_that_cannot_be_read_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        expectation.of(None, text)


def test_expectations_are_read_in_the_units_of_people() -> None:
    read = expectation.of(None, "quant=q4_k_m,over=4.7GiB,size=5kB", "AB" * 32)
    assert (read.quantization, read.over_bytes, read.size) == ("Q4_K_M", 5046586573, 5000)
    assert read.sha256 == "ab" * 32
    with pytest.raises(BadInput, match="sha256"):
        expectation.of(None, "", "123")


def test_a_training_directory_without_its_parts_is_bad_input(tmp_path: Path) -> None:
    for broken in ("", "[]", "{", '{"architectures": ["Qwen2ForCausalLM"]}'):
        (tmp_path / "config.json").write_text(broken, encoding="utf-8")
        with pytest.raises(BadInput):
            model_shape.from_config(expectation.of(tmp_path).config or {})
    write_training(tmp_path, TINY)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": "x"}}}), encoding="utf-8")
    with pytest.raises(BadInput, match="whole numbers"):
        expectation.of(tmp_path)


def test_what_another_reader_accepts_is_stopped_here(model: Path) -> None:
    cut(model, 100_000, extend=True)
    overwrite(model, model.stat().st_size, b"junk")
    assert len(writer.GGUFReader(model).tensors) == 27
    assert not_passed(verify_file(model, Expectation())) == {"well_formed"}
