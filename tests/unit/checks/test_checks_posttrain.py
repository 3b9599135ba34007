"""Each check of stage posttrain goes red, alone, when what it guards is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.artifacts.adapter import AdapterFindings
from harness.artifacts.parts import Artifact
from harness.core.answers import Entry, GgufOnBox, JsonFile, Match, Matches
from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.core.verdict import Verdict
from harness.facts.finetune import Comparison
from tests.support.facts import (
    BOX,
    CRASHED,
    DATA_BYTES,
    FILE_BYTES,
    KILLED,
    MODEL,
    NOW,
    OTHER_SHA,
    RUNNING,
    SHA,
    assert_only,
    changed,
    judge,
    log,
    posttrain,
    whole_log,
)

DONE, STEPS, TRAINED = "completion_logged", "all_steps_done", "adapters_are_trained"
EXISTS, FLOOR, SIZE = "final_gguf_exists", "remote_gguf_over_floor", "remote_gguf_size_as_predicted"
FORMED, DIGEST = "remote_gguf_well_formed", "remote_sha256_recorded"
FINAL = Entry(MODEL, "file", FILE_BYTES, NOW)
CARRIES, SEEN = "gguf_carries_the_finetune", "all_rows_trained"
SOUND = AdapterFindings(161_480_704, 64, 392, ())
RELATIVE = MODEL.removeprefix(f"{BOX}/")
HEADER = posttrain().gguf.get().gguf
assert HEADER is not None


def without(words: str) -> dict[str, Any]:
    return {"log": log(*[line for line in whole_log() if words not in line])}


def manifest(*files: Any) -> dict[str, Any]:
    return {"manifest": JsonFile(exists=True, json={"contract": 1, "files": list(files)})}


def header(**changes: Any) -> dict[str, Any]:
    assert HEADER is not None
    return {"gguf": GgufOnBox(exists=True, gguf=replace(HEADER, **changes))}


def carried(doubt: str = "", unknown: Mapping[str, str] | None = None, **changes: float) -> dict[str, Any]:
    sound = posttrain().carried.get()
    tensors = {name: replace(one, **changes) for name, one in sound.tensors.items()}
    return {"carried": replace(sound, tensors=tensors, doubt=doubt, unknown=unknown or {})}


BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    ("no line of completion", {"completion": Matches(exists=True, count=0)}, {DONE: "no line of completion"}),
    ("other lines", {"completion": Matches(exists=True, count=1, matches=(Match(1, "x"),))}, {DONE: "no line"}),
    ("no log", {"completion": Matches(exists=False)}, {DONE: "no training.log"}),
    ("it still runs", {"session": RUNNING}, {DONE: "still runs"}),
    ("it crashed", {"session": CRASHED}, {DONE: "status 1"}),
    ("it was killed", {"session": KILLED}, {DONE: "status None"}),
    ("no last line", without("TRAINING COMPLETE"), {DONE: "does not end with TRAINING COMPLETE"}),
    ("DPO says nothing", without("[dpo] COMPLETE"), {STEPS: "dpo did not say"}),
    ("SFT says nothing", without("[sft] COMPLETE"), {STEPS: "sft did not say"}),
    ("a package that takes one batch a step", without("[sft] EPOCHS"), {SEEN: "takes 32 rows, 128 are planned"}),
    (
        "an early end",
        {"log": log(*[line.replace("COMPLETE 80/80", "COMPLETE 40/80") for line in whole_log()])},
        {STEPS: "dpo ended at 40/80"},
    ),
    (
        "other totals",
        {"log": log(*[line.replace("COMPLETE 330/330", "COMPLETE 33/33") for line in whole_log()])},
        {STEPS: "sft ended at 33/33"},
    ),
    ("another rank", {"adapter": replace(SOUND, rank=8)}, {TRAINED: "rank 8"}),
    (
        "never moved",
        {"adapter": replace(SOUND, problems=("q.lora_B is all zeros",))},
        {TRAINED: "q.lora_B is all zeros"},
    ),
    ("damaged", {"adapter": replace(SOUND, problems=("cut at byte 9",))}, {TRAINED: "cut at byte 9"}),
    ("empty", {"adapter": replace(SOUND, matrices=0)}, {TRAINED: "no LoRA matrix"}),
    ("no file", {"finals": ()}, {EXISTS: "0 files"}),
    ("two files", {"finals": (FINAL, replace(FINAL, path=MODEL + "2"))}, {EXISTS: "2 files"}),
    ("a folder", {"finals": (replace(FINAL, kind="dir"),)}, {EXISTS: "it is a dir"}),
    ("a link", {"finals": (replace(FINAL, is_symlink=True),)}, {EXISTS: "symbolic link"}),
    ("unfinished", {"unfinished": (replace(FINAL, path=MODEL + ".partial"),)}, {EXISTS: "still being written"}),
    (
        "under the floor",
        {"recorded": Artifact(MODEL, 5_000_000_000, SHA)} | header(size=5_000_000_000),
        {FLOOR: "5000000000 bytes"},
    ),
    ("another model", header(data_bytes=DATA_BYTES - 32), {SIZE: f"{DATA_BYTES - 32} bytes of tensors"}),
    ("it has changed", header(size=FILE_BYTES + 1), {SIZE: f"{FILE_BYTES} were recorded"}),
    ("no tensor", header(tensors=()), {FORMED: "no tensor"}),
    ("the base model", carried(projection=0.02), {CARRIES: "carries 0.02"}),
    ("another finetune", carried(relative_error=0.5), {CARRIES: "0.5000 away"}),
    ("an adapter of zeros", carried(change=0.0), {CARRIES: "changes nothing"}),
    ("nothing was compared", {"carried": Comparison({}, {}, "", 9)}, {CARRIES: "no tensor was compared"}),
    ("far beyond the noise", carried(projection=0.02, noise=0.1), {CARRIES: "1 of 1 tensors"}),
    ("no manifest", {"manifest": JsonFile(exists=False)}, {DIGEST: "no MANIFEST.json"}),
    ("a manifest that is a list", {"manifest": JsonFile(exists=True, json=[1])}, {DIGEST: "states []"}),
    ("not in the manifest", manifest(), {DIGEST: f"states [] for {RELATIVE}"}),
    ("another digest", manifest({"path": RELATIVE, "sha256": OTHER_SHA}), {DIGEST: OTHER_SHA}),
    (
        "stated twice",
        manifest({"path": RELATIVE, "sha256": SHA}, {"path": RELATIVE, "sha256": OTHER_SHA}),
        {DIGEST: OTHER_SHA},
    ),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    facts = changed(posttrain(), changes)
    assert_only(judge(Stage.POSTTRAIN, facts), Verdict.FAIL, expected)


@pytest.mark.parametrize(("log_lines", "told"), [(whole_log(), "2.761"), ([], "0")])
def test_the_epochs_that_a_run_comes_to_are_shown(log_lines: list[str], told: str) -> None:
    facts = replace(posttrain(), log=seen(log(*log_lines)), run=unseen("there is none"))
    judged = judge(Stage.POSTTRAIN, facts)[SEEN]
    assert judged.saw["sft epochs"] == told
    assert judged.verdict is (Verdict.PASS if log_lines else Verdict.UNKNOWN)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (GgufOnBox(exists=True, malformed="tensor blk.3 ends behind the file"), "blk.3 ends behind the file"),
        (GgufOnBox(exists=False), "no longer there"),
        (GgufOnBox(exists=True), "says nothing"),
    ],
)
def test_a_file_that_does_not_parse_is_not_well_formed_and_its_size_unknown(answer: GgufOnBox, words: str) -> None:
    judged = judge(Stage.POSTTRAIN, replace(posttrain(), gguf=seen(answer)))
    assert judged[FORMED].verdict is Verdict.FAIL
    assert words in judged[FORMED].message
    assert judged[SIZE].verdict is Verdict.UNKNOWN
    assert {name for name, said in judged.items() if said.verdict is not Verdict.PASS} == {FORMED, SIZE}


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        (carried(projection=0.3, noise=0.2), CARRIES, "rounding hides"),
        (carried(projection=0.98, noise=0.2), CARRIES, "rounding hides"),
        (carried(unknown={"lm_head.weight": "output.weight is IQ1_S"}), CARRIES, "output.weight is IQ1_S"),
        (carried(projection=0.1, doubt="init_lora_weights=pissa"), CARRIES, "path_initial_model_for_weight_conversion"),
        ({"adapter": replace(SOUND, doubts=("it uses target_parameters",))}, TRAINED, "it uses target_parameters"),
    ],
)
def test_what_cannot_be_told_is_unknown_with_what_to_do(changes: Mapping[str, Any], check: str, words: str) -> None:
    assert_only(judge(Stage.POSTTRAIN, changed(posttrain(), changes)), Verdict.UNKNOWN, {check: words})


def test_a_base_that_the_training_changed_is_no_matter_where_the_file_carries_all() -> None:
    judged = judge(Stage.POSTTRAIN, changed(posttrain(), carried(doubt="init_lora_weights=pissa")))
    assert judged[CARRIES].verdict is Verdict.PASS
