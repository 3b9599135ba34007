"""A look that came back with nothing keeps its reason, whatever is made of it."""

from __future__ import annotations

import pytest

from harness.core.observed import CouldNotLook, Observed, seen, unseen


def _twice(value: int) -> int:
    return 2 * value


@pytest.mark.parametrize(
    ("look", "reason"), [(unseen("the line was cut"), "the line was cut"), (Observed(), "nothing was observed")]
)
def test_what_was_not_seen_is_not_seen_for_the_same_reason(look: Observed[int], reason: str) -> None:
    for one in (look, look.map(_twice), look.map(_twice).map(_twice)):
        with pytest.raises(CouldNotLook, match=f"^{reason}$"):
            one.get()


def test_a_value_is_changed() -> None:
    assert seen(2).map(_twice).get() == 4
    assert seen(0).map(_twice).get() == 0


@pytest.mark.parametrize("error", [ValueError("odd"), TypeError("odd"), LookupError("odd")])
def test_a_change_that_does_not_fit_is_an_unexpected_answer(error: Exception) -> None:
    def change(_: int) -> int:
        raise error

    assert seen(2).map(change).problem == "unexpected answer: odd"


def test_none_is_no_observation() -> None:
    with pytest.raises(ValueError, match="None is not an observation"):
        seen(None)
