"""Each check of preflight goes red, alone, when the fact that it judges is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.core.ports import Account
from harness.core.verdict import Verdict
from harness.facts.preflight import Context, DeviceMaps, Smoke
from harness.facts.preflight_smoke import Resolved
from harness.static.writers import Writers
from tests.support.facts import ROWS, assert_only, changed, judge, preflight, sound_job

BATCH, ALL_ROWS, MAPS = "batch_size_is_32", "all_rows_planned", "device_map_is_auto"
SMOKE, WRITTEN = "smoke_run_passes", "artifact_is_written_by_the_package"
MEMORY_ENDED = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB"
HINT = "with at most 4.00 GB of memory (does it read the tiny model's configuration?)"


def smoke(**changes: Any) -> Smoke:
    """The smoke run, with fields of it, or of what it resolved, replaced."""
    tried = preflight().smoke.value
    assert tried is not None
    assert tried.resolved is not None
    of_it = {name: changes.pop(name) for name in tuple(changes) if name in Resolved.__slots__}
    return replace(tried, **{"resolved": replace(tried.resolved, **of_it), **changes})


Case = tuple[str, Mapping[str, Any], Mapping[str, str]]
BROKEN: list[Case] = [
    ("a file is missing", {"missing_files": ("README.md",)}, {"package_files_complete": "README.md"}),
    ("a file does not compile", {"compile_errors": ("a.py:3: x",)}, {"package_compiles": "a.py:3"}),
    ("a row is missing", {"counts": {**ROWS, "pairs": 2549}}, {"dataset_counts": "2549 pairs"}),
    ("a line is no row", {"unreadable_rows": ("p.jsonl:4: x",)}, {"dataset_rows_parse": "p.jsonl:4"}),
    ("a row is unsound", {"unsound_rows": ("p.jsonl:4: y",)}, {"dataset_rows_sound": "p.jsonl:4"}),
    ("rows that were built", {"built_rows": {"p.jsonl": 3}}, {"dataset_is_yours": "3 in p.jsonl"}),
    ("rows that are cut", {"context": Context(1000, 300, "counted")}, {"dataset_fits_context": "300 of 1000"}),
    ("another batch size", {"script_batch_size": 8}, {BATCH: "BATCH_SIZE = 8"}),
    ("another batch size is resolved", {"smoke": smoke(batch_size=8)}, {BATCH: "the package trains 8"}),
    (
        "steps of fewer rows",
        {"smoke": smoke(rows_a_step={"sft": 8, "dpo": 32})},
        {ALL_ROWS: "are others: sft"},
    ),
    (
        "another device map",
        {"device_maps": DeviceMaps({"a.py:1": "balanced"}, ())},
        {MAPS: "device_map=balanced"},
    ),
    ("no device map anywhere", {"device_maps": DeviceMaps({}, ())}, {MAPS: "load no model"}),
    ("another map is resolved", {"smoke": smoke(device_map="cuda:0")}, {MAPS: "the package loads cuda:0"}),
    ("a launcher", {"launchers": ("run.sh:1: torchrun",)}, {"no_forbidden_launcher": "torchrun"}),
    ("options that fail together", {"option_pairs": ("a.py:1: x",)}, {"no_forbidden_option_pairs": "a.py:1"}),
    ("checkpoints too seldom", {"save_steps": {"a.py:1": 500}}, {"checkpoints_fit_plan": "save_steps=500"}),
    ("a smoke run fails", {"smoke": smoke(status=1, tail="boom")}, {SMOKE: "status 1:\nboom"}),
    ("it hangs", {"smoke": smoke(timed_out=True)}, {SMOKE: "did not end"}),
    ("its model is damaged", {"smoke": smoke(gguf_problem="cut")}, {SMOKE: "but: cut"}),
    ("it begins anew after a death", {"smoke": smoke(resume_problem="anew")}, {SMOKE: "after a death: anew"}),
    ("too little room here", {"local_free_bytes": 10**9}, {"artifact_size_predicted": "are free here"}),
    ("too little credit", {"account": Account(7, 1.0)}, {"credentials_work": "1.00 USD of credit"}),
    ("a key of another format", {"public_key": "PuTTY AAAA"}, {"credentials_work": "OpenSSH"}),
    ("a key of another kind inside", {"public_key": "ssh-rsa AAAAC3NzaC1lZDI1NTE5"}, {"credentials_work": "damaged"}),
    ("a key that is no base64", {"public_key": "ssh-rsa ***"}, {"credentials_work": "damaged"}),
    ("an orphan", {"orphans": ("instance 5",)}, {"no_orphans": "instance 5"}),
    ("an older model", {"destination_files": ("old.gguf",)}, {"destination_is_clean": "old.gguf"}),
    ("a runtime without a version", {"runtime": ""}, {"runtime_loads": "version"}),
]
UNTOLD: list[Case] = [
    (
        "a smoke run that resolved nothing",
        {"smoke": smoke(resolved=None)},
        {BATCH: "run.json", ALL_ROWS: "run.json", MAPS: "run.json"},
    ),
    ("a map that cannot be read", {"device_maps": DeviceMaps({"a.py:1": "auto"}, ("a.py:2",))}, {MAPS: "a.py:2"}),
]
"""What is seen, and tells nothing: no pass, and no failure."""


def _ids(cases: list[Case]) -> list[str]:
    return [case[0] for case in cases]


def test_sound_facts_open_the_gate() -> None:
    assert_only(judge(Stage.PREFLIGHT, preflight()), Verdict.FAIL, {})


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=_ids(BROKEN))
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    assert_only(judge(Stage.PREFLIGHT, changed(preflight(), changes)), Verdict.FAIL, expected)


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in UNTOLD], ids=_ids(UNTOLD))
def test_what_tells_nothing_is_unknown(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    assert_only(judge(Stage.PREFLIGHT, changed(preflight(), changes)), Verdict.UNKNOWN, expected)


@pytest.mark.parametrize(
    ("tail", "memory_bytes", "hint"),
    [(MEMORY_ENDED, 4 * 10**9, HINT), (MEMORY_ENDED, None, ""), ("ValueError: no such file", 4 * 10**9, "")],
    ids=["short of bounded memory", "short of memory, unbounded", "another error within the bound"],
)
def test_memory_is_blamed_only_where_its_bound_ended_the_smoke_run(
    tail: str, memory_bytes: int | None, hint: str
) -> None:
    tried = smoke(status=1, tail=f"a line\n{tail}\n", memory_bytes=memory_bytes)
    told = judge(Stage.PREFLIGHT, changed(preflight(), {"smoke": tried}))
    assert_only(told, Verdict.FAIL, {SMOKE: f"it ended with status 1 {hint}".rstrip() + ":\na line"})


@pytest.mark.parametrize(
    ("smoke_run", "found", "told", "verdict"),
    [
        (False, ("a.py:1: save",), (), Verdict.PASS),
        (False, (), ("a.py:1: print",), Verdict.FAIL),
        (False, (), (), Verdict.UNKNOWN),
        (True, (), (), Verdict.PASS),
    ],
)
def test_somebody_must_be_seen_to_write_the_artifact(
    smoke_run: bool, found: tuple[str, ...], told: tuple[str, ...], verdict: Verdict
) -> None:
    job = sound_job(gates={"smoke_run": smoke_run})
    facts = replace(preflight(), writers=seen(Writers(found, told)))
    facts = facts if smoke_run else replace(facts, smoke=unseen("not tried"))
    judged = judge(Stage.PREFLIGHT, facts, job)
    assert judged[WRITTEN].verdict is verdict


@pytest.mark.parametrize(("gpus", "verdict"), [(1, Verdict.PASS), (2, Verdict.FAIL)])
def test_a_model_that_is_loaded_with_no_map_goes_to_one_gpu(gpus: int, verdict: Verdict) -> None:
    nowhere = changed(preflight(), {"device_maps": DeviceMaps({}, ())})
    assert judge(Stage.PREFLIGHT, nowhere, sound_job(machine={"gpus": gpus}))[MAPS].verdict is verdict


@pytest.mark.parametrize(("stated", "noted"), [({}, True), ({"train.py:12": 100}, False)])
def test_scripts_that_state_no_save_steps_are_told_of(stated: Mapping[str, int], noted: bool) -> None:
    shown = judge(Stage.PREFLIGHT, changed(preflight(), {"save_steps": stated}))["checkpoints_fit_plan"].saw
    assert ("no script states save_steps" in shown) == noted


def test_a_machine_of_ones_own_needs_no_credit() -> None:
    own = sound_job(provider={"kind": "ssh", "host": "box"})
    poor = changed(preflight(), {"account": Account(7, 0.0)})
    assert judge(Stage.PREFLIGHT, poor, own)["credentials_work"].verdict is Verdict.PASS


def test_a_key_of_another_account_is_refused() -> None:
    job = sound_job(provider={"user_id": 8})
    assert_only(judge(Stage.PREFLIGHT, preflight(), job), Verdict.FAIL, {"credentials_work": "account 7, expected 8"})


def test_every_check_of_preflight_is_broken_here() -> None:
    """Less those that look at no fact but the job file: their table is that of the job."""
    by_job = {"image_fits_package", "disk_plan_fits", "cost_within_budget"}
    broken = {name for _, _, expected in (*BROKEN, *UNTOLD) for name in expected} | {WRITTEN}
    assert set(judge(Stage.PREFLIGHT, preflight())) - by_job == broken
