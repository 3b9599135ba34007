"""Each check of stage postdownload goes red, alone, when what it guards is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.artifacts.digest import Hashed
from harness.artifacts.parts import Artifact
from harness.core.lifecycle import Stage
from harness.core.observed import seen
from harness.core.verdict import Verdict
from harness.facts.postdownload import Companions, LocalArtifact
from harness.facts.runtime import Generation
from harness.gates import plan
from tests.support.facts import (
    FILE_BYTES,
    MODEL,
    OTHER_SHA,
    SHA,
    Judged,
    assert_only,
    changed,
    finding,
    judge,
    postdownload,
    sound_job,
)

EXISTS, FLOOR, SIZE = "local_file_exists", "local_file_over_floor", "local_size_equals_remote"
DIGEST, FORMED, TOKENIZER = "local_sha256_equals_remote", "local_gguf_well_formed", "gguf_tokenizer_and_template_match"
SPEAKS, COMPANIONS, COPY = "gguf_generates", "companions_downloaded", "second_copy_verified"
HERE = LocalArtifact("/home/artifact/m.gguf", exists=True, regular=True, partial=())
FOUND = postdownload().findings.get()


def found(name: str, verdict: Verdict) -> dict[str, Any]:
    assert name in {one.id for one in FOUND}
    return {"findings": tuple(replace(one, verdict=verdict) if one.id == name else one for one in FOUND)}


def without(name: str) -> dict[str, Any]:
    return {"findings": tuple(one for one in FOUND if one.id != name)}


BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    ("no file", {"local": replace(HERE, exists=False, regular=False)}, {EXISTS: "there is no /home"}),
    ("a link", {"local": replace(HERE, regular=False)}, {EXISTS: "not a regular file"}),
    ("unfinished", {"local": replace(HERE, partial=("m.gguf.part",))}, {EXISTS: "m.gguf.part"}),
    (
        "exactly the floor",
        {"hashed": Hashed(5_000_000_000, SHA), "remote": Artifact(MODEL, 5_000_000_000, SHA)},
        {FLOOR: "5000000000 bytes"},
    ),
    ("a byte short", {"hashed": Hashed(FILE_BYTES - 1, SHA)}, {SIZE: f"{FILE_BYTES - 1} bytes here"}),
    ("right size, wrong bytes", {"hashed": Hashed(FILE_BYTES, OTHER_SHA)}, {DIGEST: "not the file"}),
    ("zeros at the end", found("weights_present", Verdict.FAIL), {FORMED: "weights_present"}),
    ("cut", found("well_formed", Verdict.FAIL), {FORMED: "well_formed"}),
    ("another model", found("tensors_as_predicted", Verdict.FAIL), {FORMED: "tensors_as_predicted"}),
    ("another rope", found("hyperparameters", Verdict.FAIL), {FORMED: "hyperparameters"}),
    ("not looked at for weights", without("weights_present"), {FORMED: "not looked at for weights_present"}),
    ("not parsed", without("well_formed"), {FORMED: "not looked at for well_formed"}),
    ("not compared with the plan", without("tensors_as_predicted"), {FORMED: "tensors_as_predicted"}),
    ("another template", found("tokenizer_as_trained", Verdict.FAIL), {TOKENIZER: "tokenizer_as_trained"}),
    ("odd ids", found("tokenizer_consistent", Verdict.FAIL), {TOKENIZER: "tokenizer_consistent"}),
    ("not compared with the training", without("tokenizer_as_trained"), {TOKENIZER: "not compared"}),
    ("does not load", {"generation": Generation(loaded=False, error="bad tensor")}, {SPEAKS: "bad tensor"}),
    ("silent", {"generation": Generation(loaded=True, tokens=0)}, {SPEAKS: "generates nothing"}),
    ("no adapter", {"companions": Companions(11, ("adapter is missing",))}, {COMPANIONS: "adapter is missing"}),
    ("no companions", {"companions": Companions(0, ())}, {COMPANIONS: "names none"}),
    ("another copy", {"second_copy": Hashed(FILE_BYTES, OTHER_SHA)}, {COPY: "another file"}),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    facts = changed(postdownload(), changes)
    assert_only(judge(Stage.POSTDOWNLOAD, facts), Verdict.FAIL, expected)


@pytest.mark.parametrize(
    ("name", "check"),
    [("weights_present", FORMED), ("tensors_as_predicted", FORMED), ("tokenizer_as_trained", TOKENIZER)],
)
def test_what_could_not_be_found_out_is_unknown(name: str, check: str) -> None:
    facts = replace(postdownload(), findings=seen(found(name, Verdict.UNKNOWN)["findings"]))
    assert_only(judge(Stage.POSTDOWNLOAD, facts), Verdict.UNKNOWN, {check: f"the claim of {name}"})


def test_a_file_about_which_nothing_was_found_out_is_unknown() -> None:
    judged = judge(Stage.POSTDOWNLOAD, replace(postdownload(), findings=seen(())))
    assert_only(judged, Verdict.UNKNOWN, dict.fromkeys((FORMED, TOKENIZER), "nothing was found out"))


def test_a_changed_remote_record_fails_all_that_compare_with_it() -> None:
    facts = replace(postdownload(), remote=seen(Artifact(MODEL, FILE_BYTES + 1, OTHER_SHA)))
    assert_only(
        judge(Stage.POSTDOWNLOAD, facts), Verdict.FAIL, {SIZE: "bytes here", DIGEST: "not the file", COPY: "another"}
    )


def test_the_floor_is_that_of_the_quantization() -> None:
    q4 = sound_job(artifact={"quantization": "Q4_K_M"})
    small = Hashed(3_000_000_001, SHA)
    facts = replace(postdownload(), hashed=seen(small), remote=seen(Artifact(MODEL, small.size, SHA)))
    assert judge(Stage.POSTDOWNLOAD, facts, q4)[FLOOR].verdict is Verdict.PASS
    assert judge(Stage.POSTDOWNLOAD, facts)[FLOOR].verdict is Verdict.FAIL


def test_what_the_job_does_without_is_not_required() -> None:
    job = sound_job(gates={"generate": False}, artifact={"second_copy": None})
    assert plan.left_out("postdownload", job).keys() - plan.of_other_kinds(job) == {SPEAKS, COPY}
    assert finding("x").verdict is Verdict.PASS


def test_the_least_that_passes() -> None:
    changes = {
        "hashed": Hashed(5_000_000_001, SHA),
        "remote": Artifact(MODEL, 5_000_000_001, SHA),
        "second_copy": Hashed(5_000_000_001, SHA),
        "generation": Generation(loaded=True, tokens=1),
        "companions": Companions(1, ()),
    }
    assert_only(judge(Stage.POSTDOWNLOAD, changed(postdownload(), changes)), Verdict.PASS, {})


LOOKED_AT = {
    "gguf": (FORMED, ("well_formed", "tensors_as_predicted", "weights_present")),
    "merged": (
        "local_model_well_formed",
        ("files_whole", "tensors_as_predicted", "weights_present", "tokenizer_there", "config_as_planned"),
    ),
    "adapter": (
        "local_model_well_formed",
        ("adapter_config", "adapter_tensors", "adapter_numbers", "adapter_trained"),
    ),
}
UNPREDICTED = {"tensors_as_predicted", "hyperparameters", "adapter_config", "adapter_tensors"}
CLAIMS = [(kind, one) for kind, (_, claims) in LOOKED_AT.items() for one in claims]


def of_kind(kind: str, claims: Mapping[str, Verdict], *, predict: bool = True) -> Judged:
    floor = {} if kind == "gguf" else {"floor": 10_000}
    job = sound_job(artifact={"kind": kind, "predict": predict, **floor})
    facts = replace(postdownload(), findings=seen(tuple(finding(name, said) for name, said in claims.items())))
    return judge(Stage.POSTDOWNLOAD, facts, job)[LOOKED_AT[kind][0]]


@pytest.mark.parametrize(("kind", "claim"), CLAIMS)
def test_every_kind_of_model_was_looked_at_for_each_of_its_claims(kind: str, claim: str) -> None:
    claims = dict.fromkeys(LOOKED_AT[kind][1], Verdict.PASS)
    assert of_kind(kind, claims).verdict is Verdict.PASS
    said = of_kind(kind, {name: verdict for name, verdict in claims.items() if name != claim})
    assert said.verdict is Verdict.FAIL
    assert f"was not looked at for {claim}" in said.message


@pytest.mark.parametrize(("kind", "claim"), [*CLAIMS, ("gguf", "hyperparameters")])
def test_a_plan_without_a_prediction_leaves_out_what_is_not_known_and_nothing_that_is(kind: str, claim: str) -> None:
    claims = dict.fromkeys(LOOKED_AT[kind][1], Verdict.PASS)
    unknown, wrong = {**claims, claim: Verdict.UNKNOWN}, {**claims, claim: Verdict.FAIL}
    assert of_kind(kind, unknown).verdict is Verdict.UNKNOWN
    without_it = Verdict.PASS if claim in UNPREDICTED else Verdict.UNKNOWN
    assert of_kind(kind, unknown, predict=False).verdict is without_it
    assert of_kind(kind, wrong, predict=False).verdict is Verdict.FAIL
