"""Each check of stage upload goes red, alone, when what it guards is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.core.verdict import Verdict
from harness.facts.upload import Difference
from tests.support.facts import assert_only, changed, judge, sound_job, upload


def rows(features: int, scenarios: int, pairs: int) -> dict[str, Any]:
    return {"counts": {"features": features, "scenarios": scenarios, "pairs": pairs}}


MANIFEST = "remote_package_matches_manifest"
CONFIG = "remote_config_as_required"
BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    ("missing", {"difference": Difference(41, ("a.py",), (), ())}, {MANIFEST: "missing on the box: a.py"}),
    ("different", {"difference": Difference(41, (), ("a.py",), ())}, {MANIFEST: "other bytes on the box: a.py"}),
    ("stale", {"difference": Difference(42, (), (), ("old.py",))}, {MANIFEST: "stale on the box: old.py"}),
    ("nothing", {"difference": Difference(0, (), (), ())}, {MANIFEST: "names no file"}),
    ("another batch size", {"script_batch_size": 16}, {CONFIG: "BATCH_SIZE = 16"}),
    ("another device map", {"script_device_maps": ("None",)}, {CONFIG: "device_map is None"}),
    ("one of two loads", {"script_device_maps": ("auto", "cuda:0")}, {CONFIG: "auto, cuda:0"}),
    ("no device map", {"script_device_maps": ()}, {CONFIG: "not given"}),
    (
        "a row short",
        rows(10199, 5100, 2550),
        {"remote_dataset_counts": "10199"},
    ),
    (
        "features for scenarios",
        rows(5100, 10200, 2550),
        {"remote_dataset_counts": "5100"},
    ),
    (
        "a pair more",
        rows(10200, 5100, 2551),
        {"remote_dataset_counts": "2551"},
    ),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    facts = changed(upload(), changes)
    assert_only(judge(Stage.UPLOAD, facts), Verdict.FAIL, expected)


@pytest.mark.parametrize(
    ("tables", "changes", "verdict"),
    [
        ({"training": {"batch_size": 0}}, {"script_batch_size": unseen("there is none")}, Verdict.PASS),
        ({}, {"script_batch_size": unseen("there is none")}, Verdict.UNKNOWN),
        ({"machine": {"gpus": 1}}, {"script_device_maps": seen(())}, Verdict.PASS),
        ({"machine": {"gpus": 2}}, {"script_device_maps": seen(())}, Verdict.FAIL),
    ],
)
def test_a_script_states_what_its_job_demands_of_it(
    tables: Mapping[str, Any], changes: Mapping[str, Any], verdict: Verdict
) -> None:
    job = sound_job(**tables)
    facts = replace(upload(), **changes)
    assert judge(Stage.UPLOAD, facts, job)[CONFIG].verdict is verdict
