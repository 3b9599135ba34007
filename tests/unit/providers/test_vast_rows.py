from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.ports import Account, Endpoint, InstanceStatus
from harness.providers.vast import rows
from tests.support.vast_rows import charge_row, instance_row, user

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_a_whole_row() -> None:
    seen = rows.instance(instance_row())
    assert seen.id == InstanceId(7001)
    assert seen.label == "gsh-demo-0a1b2c3d"
    assert seen.status is InstanceStatus.RUNNING
    assert (seen.gpu_name, seen.num_gpus, seen.usd_per_hour, seen.disk_gb) == ("H100 SXM", 8, 15.9, 150.0)
    assert (seen.started_at, seen.ends_at, seen.is_bid) == (1_799_999_000.5, 1_802_000_000.0, False)


@pytest.mark.parametrize(("told", "price"), [({}, None), ({"storage_total_cost": 0.0308}, 0.0308)])
def test_the_price_of_the_disk_is_told_where_the_row_has_it(told: dict[str, Any], price: float | None) -> None:
    assert rows.instance(instance_row(**told)).disk_usd_per_hour == price


def test_a_price_of_the_disk_that_reads_oddly_hides_no_instance() -> None:
    assert rows.instance(instance_row(storage_total_cost="cheap")).disk_usd_per_hour is None


def test_the_direct_way_comes_first_and_its_address_is_stripped() -> None:
    assert rows.instance(instance_row()).endpoints == (
        Endpoint("192.0.2.45", 20000, "direct"),
        Endpoint("ssh5.vast.ai", 17001, "proxy"),
    )


def test_the_proxy_port_is_one_higher_in_front_of_jupyter() -> None:
    shown = rows.instance(instance_row(image_runtype="jupyter_proxy ssh_proxy", ports=None))
    assert shown.endpoints == (Endpoint("ssh5.vast.ai", 17002, "proxy"),)


@pytest.mark.parametrize("ports", [None, {}, {"8080/tcp": [{"HostPort": "1"}]}])
def test_without_a_mapping_there_is_no_direct_way(ports: object) -> None:
    assert [way.route for way in rows.instance(instance_row(ports=ports)).endpoints] == ["proxy"]


def test_a_row_of_a_starting_instance_lacks_much() -> None:
    row = instance_row(actual_status=None, ports=None, ssh_host=None, ssh_port=None, public_ipaddr=None, label=None)
    del row["start_date"], row["end_date"], row["extra_env"]
    shown = rows.instance(row)
    assert shown.status is InstanceStatus.PROVISIONING
    assert (shown.endpoints, shown.label, shown.started_at, shown.ends_at) == ((), None, None, None)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("created", InstanceStatus.CREATED),
        ("loading", InstanceStatus.LOADING),
        ("running", InstanceStatus.RUNNING),
        ("stopped", InstanceStatus.STOPPED),
        ("frozen", InstanceStatus.FROZEN),
        ("exited", InstanceStatus.EXITED),
        ("rebooting", InstanceStatus.REBOOTING),
        ("unknown", InstanceStatus.UNKNOWN),
        ("offline", InstanceStatus.OFFLINE),
    ],
)
def test_every_documented_status_is_known(word: str, status: InstanceStatus) -> None:
    assert rows.instance(instance_row(actual_status=word)).status is status


def test_a_status_that_is_new_is_not_taken_for_running() -> None:
    assert rows.instance(instance_row(actual_status="teleporting")).status is InstanceStatus.UNKNOWN


def test_numbers_may_come_as_strings() -> None:
    assert rows.instance(instance_row(id="7001", dph_total="15.9")).usd_per_hour == 15.9


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": True},
        {"id": 0},
        {"id": -3},
        {"id": 1.5},
        {"dph_total": None},
        {"dph_total": "much"},
        {"dph_total": float("nan")},
        {"dph_total": float("inf")},
        {"disk_space": []},
        {"machine_id": None},
        {"label": 7},
        {"actual_status": 3},
        {"public_ipaddr": "-oProxyCommand=evil"},
        {"public_ipaddr": "192.0.2.1 evil"},
        {"ssh_host": "ssh5.vast.ai\x1b[2J"},
        {"ssh_port": 0},
        {"ssh_port": 70_000},
        {"ports": {"22/tcp": ["20000"]}},
        {"ports": {"22/tcp": [{"HostPort": "x"}]}},
        {"ports": {"22/tcp": "20000"}},
        {"volume_info": "9001"},
        {"volume_info": [{"mount_path": "/data"}]},
    ],
)
def test_an_odd_row_is_no_row(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable, match=r"instance"):
        rows.instance(instance_row(**change))


UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw loads tables


@UNHURRIED
@given(st.dictionaries(st.sampled_from(sorted(instance_row())), JSON, max_size=4))
def test_a_hostile_row_is_read_or_refused_and_never_more(changes: dict[str, Any]) -> None:
    problem = ""
    ports: list[int] = []
    try:
        ports = [way.port for way in rows.instance(instance_row(**changes)).endpoints]
    except ProviderUnavailable as error:
        problem = str(error)
    assert all(0 < port < 65536 for port in ports)
    assert problem.isprintable()
    assert len(problem) < 500


@UNHURRIED
@given(JSON)
def test_what_is_not_even_an_object_is_refused(value: object) -> None:
    with pytest.raises(ProviderUnavailable):
        rows.instance(value)


def test_a_status_message_is_made_printable() -> None:
    assert "\x1b" not in rows.instance(instance_row(status_msg="\x1b[2Jgone")).status_message


@pytest.mark.parametrize(
    ("message", "fatal"),
    [
        ("Error: manifest unknown\x1b[2J", True),
        ("OCI runtime create failed: no such device", True),
        ("toomanyrequests: Pull rate limit exceeded", True),
        ("pulling fs layer", False),
        (None, False),
    ],
)
def test_some_status_messages_mean_that_it_never_runs(message: str | None, fatal: bool) -> None:
    shown = rows.instance(instance_row(actual_status="loading", status_msg=message))
    assert shown.failure == (shown.status_message if fatal else None)


def test_credit_is_what_is_left_to_spend() -> None:
    assert rows.account(user(credit=42.5, balance=-3.0)) == Account(424242, 42.5)
    assert rows.account({"id": 5, "balance": 7.0}) == Account(5, 7.0)


@pytest.mark.parametrize("body", [{}, {"id": 5}, {"id": None, "credit": 1}, {"id": 5, "credit": "none"}])
def test_an_odd_account_is_no_account(body: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable):
        rows.account(body)


def test_charges_are_told_apart_by_kind() -> None:
    billed = rows.charges_of(InstanceId(7001), charge_row(gpu=1.5, disk=0.25))
    assert [(charge.kind, charge.usd) for charge in billed] == [("gpu", 1.5), ("disk", 0.25)]


def test_the_volumes_of_an_instance_are_told() -> None:
    assert rows.instance(instance_row()).volumes == ()
    assert rows.instance(instance_row(volume_info=None)).volumes == ()
    assert rows.instance(instance_row(volume_info=[{"id": 9001}, {"id": "9002"}])).volumes == (9001, 9002)


@pytest.mark.parametrize(
    "change",
    [
        {"source": None},
        {"source": "instance"},
        {"source": "instance-7001-x"},
        {"source": "instance--7001"},
        {"items": None},
        {"items": [3]},
        {"amount": "x", "items": []},
    ],
)
def test_an_odd_bill_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable):
        rows.bill({**charge_row(), **change})


def test_charges_of_another_instance_are_not_ours() -> None:
    assert rows.charges_of(InstanceId(700), charge_row(7001)) == ()


def test_a_charge_without_items_counts_as_a_whole() -> None:
    row = {**charge_row(gpu=1.5, disk=0.5), "items": []}
    assert [charge.usd for charge in rows.charges_of(InstanceId(7001), row)] == [2.0]


@pytest.mark.parametrize("change", [{"items": None}, {"items": [3]}, {"amount": "x", "items": []}])
def test_an_odd_charge_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable):
        rows.charges_of(InstanceId(7001), {**charge_row(), **change})
