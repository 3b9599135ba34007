"""Each check of stage teardown goes red, alone, when what it guards is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from tests.support.facts import assert_only, changed, judge, teardown

ABSENCE = teardown().absence.get()
BILLING = teardown().billing.get()
GROWN = (BILLING.looks[0], replace(BILLING.looks[1], usd=BILLING.looks[0].usd + 0.27))
STRANGER = replace(ABSENCE.looks[2], user_id=7)

BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    ("a void release", {"release_problems": ("it names another file",)}, {"release_is_valid": "names another file"}),
    ("a changed file", {"file_problems": ("its digest differs",)}, {"file_still_matches_release": "digest differs"}),
    ("still writing", {"running": ("4242 python3 train.py",)}, {"nothing_still_running": "4242 python3"}),
    ("nobody confirmed", {"confirmed": ""}, {"operator_confirmed": "nobody confirmed"}),
    ("two looks", {"absence": replace(ABSENCE, looks=ABSENCE.looks[:2])}, {"instance_is_gone": "2 looks agree"}),
    (
        "looked with another account's key",
        {"absence": replace(ABSENCE, looks=(*ABSENCE.looks[:2], STRANGER))},
        {"instance_is_gone": "several accounts"},
    ),
    ("one look at the bill", {"billing": replace(BILLING, looks=BILLING.looks[:1])}, {"billing_stopped": "1 looks"}),
    ("the bill grows", {"billing": replace(BILLING, looks=GROWN)}, {"billing_stopped": "$10.9000 to $11.1700"}),
    (
        "a volume bills on",
        {"volumes": ("volume 9 data 20 GB 0.0041 USD/h",)},
        {"billing_stopped": "still billed: volume 9"},
    ),
    ("an orphan", {"orphans": ("7009 (gsh-x-1, running)",)}, {"no_orphans_left": "7009"}),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    facts = changed(teardown(), changes)
    assert_only(judge(Stage.TEARDOWN, facts), Verdict.FAIL, expected)
