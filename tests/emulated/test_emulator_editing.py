"""An edited answer: members by their dotted path, in objects and in lists of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from harness.emulator.editing import edited
from harness.emulator.scenario import ApiFault

SHOWN = {"instances": {"id": 5, "label": "gsh-night-0badcafe"}}
LISTED = {"instances": [{"id": 5, "label": "gsh-night-0badcafe"}, {"id": 6, "label": None}], "total": 2}


@pytest.mark.parametrize(
    ("answer", "fault", "expected"),
    [
        (LISTED, {"set": {"total": 3}}, {**LISTED, "total": 3}),
        (LISTED, {"unset": ["instances"]}, {"total": 2}),
        (SHOWN, {"set": {"instances.id": 9}}, {"instances": {"id": 9, "label": "gsh-night-0badcafe"}}),
        (SHOWN, {"set": {"instances.new": 1}}, {"instances": {**SHOWN["instances"], "new": 1}}),
        (SHOWN, {"unset": ["instances.label", "instances.none"]}, {"instances": {"id": 5}}),
        (SHOWN, {"cut": {"instances.label": 9, "instances.id": 1}}, {"instances": {"id": 5, "label": "gsh-night"}}),
        (
            LISTED,
            {"cut": {"instances.label": 3}, "set": {"instances.id": 1}},
            {"instances": [{"id": 1, "label": "gsh"}, {"id": 1, "label": None}], "total": 2},
        ),
        ({"instances": None}, {"set": {"instances.id": 9}}, {"instances": None}),
        ("deleted", {"set": {"id": 9}}, "deleted"),
        ([{"id": 1}], {"set": {"id": 9}}, [{"id": 9}]),
    ],
)
def test_an_edit_reaches_what_it_names_and_nothing_else(answer: Any, fault: dict[str, Any], expected: Any) -> None:
    asked = ApiFault.model_validate({"route": "GET /api/v0/instances/{id}", "do": "edit", **fault})
    assert edited(copy.deepcopy(answer), asked) == expected
