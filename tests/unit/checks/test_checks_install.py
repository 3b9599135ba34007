"""Each check of stage install goes red, alone, when what it guards is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.answers import Ran, Terminals
from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.core.verdict import Verdict
from harness.facts.install import Libraries, Requirements, Unsatisfied
from harness.gates import plan
from tests.support.facts import assert_only, changed, install, judge, sound_job

H100 = "NVIDIA H100 80GB HBM3"
BASE, EXPORT = "base_model_available", "gguf_export_ready"
BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    (
        "an old package",
        {"requirements": Requirements(8, (Unsatisfied("trl>=1.16", "0.9"),))},
        {"requirements_installed": "trl>=1.16 (found 0.9)"},
    ),
    (
        "an absent package",
        {"requirements": Requirements(8, (Unsatisfied("trl>=1.16", None),))},
        {"requirements_installed": "found nothing"},
    ),
    ("no requirements", {"requirements": Requirements(0, ())}, {"requirements_installed": "names nothing"}),
    ("no CUDA", {"libraries": Libraries({"torch": "2"}, cuda=False, devices=())}, {"accelerator_visible": "no CUDA"}),
    (
        "a GPU is hidden",
        {"libraries": Libraries({"torch": "2"}, cuda=True, devices=(H100,) * 7)},
        {"accelerator_visible": "7 GPUs"},
    ),
    ("import error", {"imports": Ran(1, err="ImportError: cannot import name X")}, {"libraries_import": "name X"}),
    ("exit in mid-import", {"imports": Ran(0, out="")}, {"libraries_import": "never came to its end"}),
    (
        "no base model",
        {"readiness": Ran(1, err="404 not found: no/model")},
        {BASE: "404 not found", EXPORT: "404 not found"},
    ),
    ("no export", {"readiness": Ran(1, out="READY base_model 7B\n", err="No module gguf")}, {EXPORT: "No module gguf"}),
    (
        "an export that says ready and fails",
        {"readiness": Ran(3, out="READY base_model 7B\nREADY gguf_export Q8_0\n")},
        {EXPORT: "status 3"},
    ),
    (
        "a sentence about it",
        {"readiness": Ran(0, out="not READY base_model 7B\nREADY gguf_export Q8_0\n")},
        {BASE: "not READY"},
    ),
    ("no tmux", {"multiplexer": Terminals(installed=False, sessions=())}, {"terminal_multiplexer_ready": "no tmux"}),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    facts = changed(install(), changes)
    assert_only(judge(Stage.INSTALL, facts), Verdict.FAIL, expected)


def test_a_rehearsal_without_a_gpu_needs_torch_alone() -> None:
    rehearsal = sound_job(training={"accelerator": "cpu"})
    facts = replace(install(), libraries=seen(Libraries({"torch": "2"}, cuda=False, devices=())))
    assert_only(judge(Stage.INSTALL, facts, rehearsal), Verdict.FAIL, {})
    lacking = replace(facts, libraries=seen(Libraries({}, cuda=False, devices=())))
    assert_only(
        judge(Stage.INSTALL, lacking, rehearsal), Verdict.FAIL, {"accelerator_visible": "torch does not import"}
    )


def test_a_package_without_a_readiness_command_proves_nothing() -> None:
    job = sound_job(package={"readiness": ()})
    assert {BASE, EXPORT} <= set(plan.declared("install", job))
    judged = judge(Stage.INSTALL, replace(install(), readiness=unseen("not asked")), job)
    assert_only(judged, Verdict.UNKNOWN, {BASE: "not asked", EXPORT: "not asked"})
