from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import ProviderUnavailable
from harness.core.ports import OfferQuery
from harness.emulator.market import Ask
from harness.providers.vast.offers import gpu_names, offers, rows_of, search_body
from tests.support.vast_rows import offer_row

QUERY = OfferQuery(
    gpu_names=("H100",),
    num_gpus=8,
    disk_gb=150.0,
    max_usd_per_hour=16.0,
    min_reliability=0.95,
    min_cuda=12.1,
    min_duration_s=86_400.0,
    min_inet_down_mbps=200.0,
    direct_port=True,
)


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("H100", ("H100 SXM", "H100 NVL", "H100 PCIE")),
        ("h100", ("H100 SXM", "H100 NVL", "H100 PCIE")),
        ("H100_SXM", ("H100 SXM",)),
        ("H100 SXM", ("H100 SXM",)),
        ("H200", ("H200", "H200 NVL")),
        ("A100", ("A100 SXM4", "A100 PCIE")),
        ("RTX_4090", ("RTX 4090",)),
    ],
)
def test_what_people_type_finds_what_the_market_has(typed: str, names: tuple[str, ...]) -> None:
    assert gpu_names(typed) == names


def test_the_search_is_spelled_as_the_official_command_line_spells_it() -> None:
    from vastai.api.query import offers_alias, offers_fields, offers_mult, parse_query

    ours = search_body(QUERY)
    theirs = parse_query(
        "num_gpus>=8 disk_space>=150 dph<=16 reliability>=0.95 cuda_vers>=12.1 duration>=1 inet_down>=200 "
        "direct_port_count>=1 gpu_name in [H100_SXM,H100_NVL,H100_PCIE]",
        {},
        offers_fields,
        offers_alias,
        offers_mult,
    )
    assert {name: ours[name] for name in theirs} == theirs


def test_the_search_is_for_machines_that_can_be_rented_now_with_this_disk() -> None:
    body = search_body(QUERY)
    assert body["verified"] == {"eq": True}
    assert body["rentable"] == {"eq": True}
    assert body["type"] == "on-demand"
    assert body["allocated_storage"] == 150.0
    assert body["order"] == [["dph_total", "asc"]]


def test_limits_that_are_not_asked_for_are_not_sent() -> None:
    body = search_body(OfferQuery(("RTX 4090",), 1, 20.0, 1.0))
    assert body["gpu_name"] == {"eq": "RTX 4090"}
    assert not {"reliability", "cuda_max_good", "duration", "inet_down", "direct_port_count"} & set(body)


def test_the_cheapest_comes_first() -> None:
    found = offers([offer_row(1, dph_total=15.0), offer_row(2, dph_total=12.0)], QUERY)
    assert [offer.id for offer in found] == [2, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"gpu_name": "H100"},
        {"gpu_name": "A100 SXM4"},
        {"num_gpus": 4},
        {"disk_space": 100},
        {"dph_total": 16.01},
        {"reliability": 0.9},
        {"cuda_max_good": 11.8},
        {"duration": 3600},
        {"inet_down": 100},
        {"direct_port_count": 0},
    ],
)
def test_what_does_not_fit_is_left_out_even_when_the_server_sends_it(change: dict[str, Any]) -> None:
    assert offers([offer_row(1, **change), offer_row(2)], QUERY) == offers([offer_row(2)], QUERY)


def test_an_offer_that_cannot_be_read_is_no_offer() -> None:
    assert [offer.id for offer in offers([offer_row(1, dph_total=None), 3, offer_row(2)], QUERY)] == [2]


def test_when_no_offer_can_be_read_the_market_was_not_looked_at() -> None:
    with pytest.raises(ProviderUnavailable, match="an offer: dph_total is missing"):
        offers([{name: value for name, value in offer_row().items() if name != "dph_total"}], QUERY)


def test_an_empty_market_is_an_answer_and_a_missing_list_is_none() -> None:
    assert offers(rows_of({"offers": []}), QUERY) == ()
    with pytest.raises(ProviderUnavailable, match="offers is missing"):
        rows_of({})


@pytest.mark.parametrize(
    ("told", "price"),
    [(0.0308, 0.0308), ("0.03", 0.03), *((odd, None) for odd in (None, -1, "cheap", float("nan"), (), True))],
)
def test_the_price_of_the_disk_is_told_where_it_reads_and_spoils_no_offer(told: object, price: float | None) -> None:
    assert offers([offer_row(1)], QUERY)[0].disk_usd_per_hour is None
    (found,) = offers([offer_row(1, storage_total_cost=told)], QUERY)
    assert found.disk_usd_per_hour == price


def test_the_embedded_market_tells_the_price_of_the_disk_that_was_asked_for() -> None:
    ask = Ask("H100 SXM", 15.0, num_gpus=8, storage_cost=0.2)
    (found,) = offers([{**ask.row(0.0, 150.0, bid=False), "id": 1, "machine_id": 2}], QUERY)
    assert found.disk_usd_per_hour == pytest.approx(150 * 0.2 * 12 / 8760)
    assert found.usd_per_hour == pytest.approx(15.0 + 150 * 0.2 * 12 / 8760)
