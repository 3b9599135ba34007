"""One formula for dollars: nothing else in the engine turns time into money."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core import money
from harness.core.money import HOUR_S, seconds_for, usd

ROOT = Path(__file__).resolve().parents[3]
HOME = ROOT / "harness" / "core" / "money.py"
NO_TIME = {"budget_usd": "a share of the budget", "max_usd_per_gb": "traffic is paid by the byte"}
"""Names of money that may stand in a product: there is no time in it."""


def test_an_hour_costs_the_price_by_the_hour() -> None:
    assert usd(3600, 16) == 16
    assert usd(900, 16) == 4
    assert usd(0, 16) == 0
    assert HOUR_S == 3600


def test_what_a_sum_pays_for() -> None:
    assert seconds_for(16, 16) == 3600
    assert usd(seconds_for(1.33, 15.92), 15.92) == pytest.approx(1.33)
    assert seconds_for(-1, 16) < 0
    assert seconds_for(1, 0.5) == 7200
    assert seconds_for(1, 0) == float("inf")


@pytest.mark.parametrize(
    ("embedded", "own", "words"),
    [
        (False, False, "$3"),
        (True, False, "$3 (embedded: no real money)"),
        (False, True, "your own machine, nothing is billed"),
        (True, True, "your own machine, nothing is billed"),
    ],
)
def test_what_nobody_pays_is_called_so(embedded: bool, own: bool, words: str) -> None:
    assert money.as_paid("$3", embedded=embedded, own=own) == words


def test_prices_in_other_units() -> None:
    assert money.for_traffic(2e9, 0.25) == 0.5
    assert money.storage_per_hour(1460, 0.1) == pytest.approx(0.2)
    assert money.per_hour(0.002) == pytest.approx(7.2)
    assert money.per_gpu(16, 8) == 2
    assert money.per_gpu(3, 1) == 3
    assert money.per_gpu(3, 0) == 3  # an offer that does not say how many


@pytest.mark.parametrize(
    ("since", "until", "part"),
    [
        (None, 300.0, 12),
        (None, 200.0, 0),
        (None, 100.0, 0),
        (200.0, 300.0, 12),
        (250.0, 300.0, 12),
        (100.0, 300.0, 6),
        (160.0, 210.0, 2.4),
        (100.0, 200.0, 0),
        (300.0, 300.0, 12),
        (400.0, 300.0, 12),
    ],
)
def test_a_charge_over_a_time_counts_from_the_start(since: float | None, until: float, part: float) -> None:
    assert money.within(12, since, until, 200.0) == pytest.approx(part)


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _reckoned_by_hand(source: str) -> Iterator[int]:
    """Lines in which a price is multiplied or divided, or something is divided by the seconds of an hour."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                factors = [node.left, node.right]
            case ast.AugAssign(op=ast.Mult() | ast.Div()):
                factors = [node.target, node.value]
            case _:
                continue
        names = {_name(factor) for factor in factors} - {*NO_TIME}
        an_hour = isinstance(factors[1], ast.Constant) and factors[1].value == 3600 and isinstance(node.op, ast.Div)
        if an_hour or any("usd" in name.lower() or name == "HOUR_S" for name in names):
            yield node.lineno


@pytest.mark.parametrize(
    "source",
    ["x = job.usd_per_hour * hours", "x = seconds / 3600.0 * price", "x = usd / 2", "price /= HOUR_S", "usd *= 2"],
)
def test_a_sum_by_hand_would_be_seen(source: str) -> None:
    assert list(_reckoned_by_hand(source)) == [1]


def test_nothing_else_turns_seconds_into_dollars() -> None:
    by_hand = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("harness", "checks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != HOME and ROOT / "harness" / "emulator" not in path.parents
        for line in _reckoned_by_hand(path.read_text(encoding="utf-8"))
    ]
    assert not by_hand
