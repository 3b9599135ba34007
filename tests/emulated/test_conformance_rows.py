"""Every belief about Vast.ai is tried, and a service that does otherwise turns exactly its own rows red."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.run import Outcome
from harness.core.errors import HarnessError
from harness.core.ports import Charge
from harness.providers.vast.assumptions import ASSUMPTIONS
from tests.support.conformance_kit import Habits, Service, service
from tests.support.faulty_provider import FaultyProvider

pytest.importorskip("vastai")

NEVER = "/api/v0/instances/2147483647"
IT = "/api/v0/instances/24000004"
"""The instance of a run: three scoped keys have the numbers before it."""
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOtherOtherOtherOtherOther"


def reply(route: str, body: str, status: int = 200, **more: Any) -> dict[str, Any]:
    return {"route": route, "do": "reply", "body": body, "status": status, "content_type": "text/plain", **more}


def edit(route: str, **more: Any) -> dict[str, Any]:
    return {"route": route, "do": "edit", "times": 0, **more}


def show(**members: Any) -> dict[str, Any]:
    return edit(f"GET {IT}", set={f"instances.{name}": value for name, value in members.items()})


@dataclass(frozen=True, slots=True)
class Otherwise:
    """A service that does otherwise: its faults, the ways of its boxes, and the rows that must turn red, no others."""

    rows: tuple[str, ...]
    api: tuple[dict[str, Any], ...] = ()
    habits: Habits = field(default_factory=Habits)
    world: dict[str, Any] = field(default_factory=dict)
    unproven: bool = False
    """The run cannot prove the end of the bill, and says so."""


HIDDEN = '{"instances": null}'
NO_INSTANCES = {"instances": [], "instances_found": 0, "total_instances": 0}
CASES = {
    "the account's number changes": Otherwise(
        ("V-01",), (edit("GET /api/v0/users/current", set={"id": 9}, after=1, times=1),)
    ),
    "no reply tells the time": Otherwise(("V-02",), (edit("* /api/*", headers={"Date": "soon"}),)),
    "a wrong key is answered as a missing instance": Otherwise(
        ("V-03",), (reply(f"GET {NEVER}", HIDDEN, after=2, times=0),)
    ),
    "a wrong key is answered in other words": Otherwise(
        ("V-03",), (reply(f"GET {NEVER}", '{"error": "who"}', 404, after=2, times=2),)
    ),
    "a missing instance is answered 410": Otherwise(("V-04",), (reply(f"GET {NEVER}", '{"error": "gone"}', 410),)),
    "a missing instance is answered 200 with nothing": Otherwise(("V-04",), (reply(f"GET {NEVER}", ""),)),
    "destroying nothing is a success": Otherwise(
        ("V-05",), (reply(f"DELETE {NEVER}", '{"success": true}', after=1),)
    ),
    "the list is cut short": Otherwise(
        ("V-06",), (edit("GET /api/v1/instances", set={"total_instances": 3}, times=1),)
    ),
    "the list is retired": Otherwise(("V-06",), (reply("GET /api/v1/instances", '{"error": "deprecated"}', 410),)),
    "volumes come without their list": Otherwise(("V-07",), (edit("GET /api/v0/volumes", unset=["volumes"], times=1),)),
    "charges come in another form": Otherwise(("V-08",), (edit("GET /api/v0/charges", unset=["results"], times=1),)),
    "price increases come in another form": Otherwise(
        ("V-09",), (edit("GET /api/v0/instances/pending-price-increases", set={"pending_price_increases": "none"}),)
    ),
    "an offer's memory is a word": Otherwise(
        ("V-10",), (edit("POST /api/v0/bundles", set={"offers.gpu_ram": "24 GB"}, after=3, times=1),)
    ),
    "a search overlooks its filters": Otherwise(
        ("V-11",), (edit("POST /api/v0/bundles", set={"offers.dph_total": 200.0}, after=4, times=1),)
    ),
    "the disk is not in the price": Otherwise(
        ("V-12",), (edit("POST /api/v0/bundles", set={"offers.dph_total": 0.36}, after=5, times=2),)
    ),
    "the market has another kind of H100": Otherwise(
        ("V-13",), (edit("GET /api/v0/gpu_names/unique", set={"gpu_names": ["H100 SXM", "H100 Ultra"]}),)
    ),
    "two seconds are too fast": Otherwise(("V-14",), (reply(f"GET {NEVER}", "too frequent", 429, after=5),)),
    "the everyday key can destroy": Otherwise(("V-15",), (reply(f"DELETE {NEVER}", '{"error": "not_found"}', 404),)),
    "the everyday key can stop": Otherwise(("V-15",), (reply(f"PUT {NEVER}", '{"error": "not_found"}', 404),)),
    "the harness's key cannot stop": Otherwise(("V-16",), (reply(f"PUT {NEVER}", '{"error": "no"}', 403, after=1),)),
    "the harness's key makes keys": Otherwise(
        ("V-16",), (reply("DELETE /api/v0/auth/apikeys/2147483647", '{"error": "not_found"}', 404, after=1),)
    ),
    "a scoped key is shown the first one": Otherwise(
        ("V-17",), (edit("GET /api/v0/users/current", set={"first": "f" * 64}),)
    ),
    "a create tells no number": Otherwise(("V-20",), (edit("PUT /api/v0/asks/{id}", unset=["new_contract"]),)),
    "a new instance does not show for a while": Otherwise(("V-21",), (reply(f"GET {IT}", HIDDEN, times=31),)),
    "a new instance is not listed for a minute": Otherwise(
        ("V-22",), (edit("GET /api/v1/instances", set=NO_INSTANCES, after=7, times=31),)
    ),
    "a new instance neither shows nor is listed": Otherwise(("V-21", "V-22"), world={"pace": {"hidden_s": 90.0}}),
    "labels are cut at 32": Otherwise(
        ("V-23",), (edit("GET /api/v0/instances/{id}", cut={"instances.label": 32}),
                    edit("GET /api/v1/instances", cut={"instances.label": 32}))
    ),
    "a volume comes with it": Otherwise(
        ("V-24",), (edit(f"GET {IT}", set={"instances.volume_info": [{"id": 5}]}, after=3, times=1),)
    ),
    "states have other words": Otherwise(
        ("V-25",), (edit(f"GET {IT}", set={"instances.actual_status": "scheduling"}, after=5, times=1),)
    ),
    "two GPUs come for one": Otherwise(("V-31",), (show(num_gpus=2),)),
    "a smaller disk comes": Otherwise(("V-31",), (show(disk_space=8.0),)),
    "it costs more than was offered": Otherwise(("V-32",), (show(dph_total=0.5021, dph_base=0.5),)),
    "the parts of the price are not its sum": Otherwise(("V-33",), (show(dph_base=0.2),)),
    "it began long ago": Otherwise(("V-34",), (show(start_date=1.0),)),
    "it has no end": Otherwise(("V-34",), (show(end_date=None),)),
    "the log shows no host keys": Otherwise(("V-35",), (reply("GET /results/*", "boot", times=0),)),
    "the log never appears": Otherwise(("V-35",), (reply("GET /results/*", "wait", 404, times=0),)),
    "an attached key is not let in": Otherwise(("V-36",), world={"pace": {"key_s": 400.0}}),
    "the box shows another host key": Otherwise(("V-37", "V-54"), habits=Habits(OTHER_KEY, OTHER_KEY)),
    "logins land in a banner": Otherwise(("V-38", "V-52"), habits=Habits(banner=b"Welcome\n")),
    "onstart ran elsewhere": Otherwise(("V-39",), habits=Habits(runs_onstart=False)),
    "the direct port is closed": Otherwise(("V-40",), habits=Habits(closed_routes=("direct",))),
    "the proxy is closed": Otherwise(("V-41", "V-42"), habits=Habits(closed_routes=("proxy",))),
    "the proxy lets in five at once": Otherwise(("V-42",), habits=Habits(most_logins=8)),
    "a stop is ignored": Otherwise(("V-50",), (reply(f"PUT {IT}", '{"success": true}'),)),
    "a start is refused": Otherwise(("V-51",), (reply(f"PUT {IT}", '{"error": "no"}', 400, after=1),)),
    "a stop loses the disk": Otherwise(("V-52",), world={"stop_keeps_disk": False}),
    "a start forgets the keys": Otherwise(("V-53",), habits=Habits(forgets_keys=True)),
    "a start makes a host key that no log shows": Otherwise(("V-54",), habits=Habits(later_host_key=OTHER_KEY)),
    "a destroy is answered in other words": Otherwise(("V-60",), (reply(f"DELETE {IT}", '"ok"', commit=True),)),
    "a destroy is a success and the row stays": Otherwise(("V-61",), (reply(f"DELETE {IT}", '{"success": true}'),)),
    "a destroyed instance shows for long": Otherwise(("V-61",), world={"pace": {"destroy_lag_s": 700.0}}),
    "charges never come": Otherwise(
        ("V-62",),
        (edit("GET /api/v0/charges", set={"results": [], "count": 0, "total": 0}, after=1),),
        unproven=True,
    ),
    "it is charged more than its prices say": Otherwise(
        ("V-64",), (edit("GET /api/v0/charges", set={"results.items.amount": 0.2}),)
    ),
    "a volume is left": Otherwise(
        ("V-65",),
        (edit("GET /api/v0/volumes", set={"volumes": [{"id": 7, "disk_space": 10.0, "label": None}]}, after=1),),
    ),
}  # fmt: skip


def answered(served: Service) -> tuple[dict[str, str], HarnessError | None]:
    """Every row's outcome, and what the run ended with."""
    work, ended = served.run(), None
    try:
        work.go()
    except HarnessError as error:
        ended = error
    return {one.row.id: one.outcome for one in work.answers()}, ended


def red(answers: dict[str, str]) -> tuple[str, ...]:
    return tuple(row for row, outcome in answers.items() if outcome is Outcome.WRONG)


@pytest.mark.parametrize("name", CASES)
def test_a_service_that_does_otherwise_turns_its_rows_red(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    with service(tmp_path, case.habits, api=case.api, **case.world) as served:
        served.world.state.key = "f" * 64
        answers, ended = answered(served)
        assert red(answers) == case.rows, served.said
        assert (ended is not None) == case.unproven
        assert not served.world.rentals()
        assert not served.world.state.scoped_keys
        (journal,) = served.journals()
        assert journal.may_bill == case.unproven


def test_charges_that_grow_on_turn_their_row_red(tmp_path: Path) -> None:
    with service(tmp_path) as served:

        class Growing(FaultyProvider):
            def charges(self, instance_id: Any) -> tuple[Charge, ...]:
                now = served.clock.now()
                return (*super().charges(instance_id), Charge(instance_id, "disk", (now % 1e5) * 1e-8, now, now))

        served.changed = Growing
        answers, ended = answered(served)
        assert red(answers) == ("V-63",)
        assert ended is not None
        assert ended.exit_code == 6


def test_on_a_service_that_keeps_them_every_row_that_is_tried_holds(tmp_path: Path) -> None:
    with service(tmp_path) as served:
        answers, ended = answered(served)
        assert ended is None
        tried = {row.id for row in ASSUMPTIONS if row.trial}
        assert {row for row, outcome in answers.items() if outcome is Outcome.HOLDS} == tried
        assert served.habits is not None
        assert not list(served.home.glob("conformance/*/id_ed25519*"))


UNTRIED: dict[str, tuple[dict[str, Any], tuple[dict[str, Any], ...], str]] = {
    "a host that never comes to run": ({"pace": {"running_s": 5000.0}}, (), "V-30"),
    "the service is down for one question": (
        {},
        (reply("GET /api/v0/volumes", "<html>", 502, times=5),),
        "V-07",
    ),
    "a start that waits for GPUs": ({}, (reply(f"PUT {IT}", '{"success": true}', after=1),), "V-51"),
    "a create whose reply is lost": ({}, ({"route": "PUT /api/v0/asks/{id}", "do": "drop", "commit": True},), "V-20"),
}


@pytest.mark.parametrize("name", UNTRIED)
def test_what_says_nothing_about_the_service_is_untried_and_not_red(name: str, tmp_path: Path) -> None:
    world, api, row = UNTRIED[name]
    with service(tmp_path, api=api, **world) as served:
        answers, ended = answered(served)
        assert red(answers) == (), served.said
        assert answers[row] is Outcome.UNTRIED
        assert ended is None
        assert not served.world.rentals()


def test_every_row_has_a_number_a_source_and_something_that_rests_on_it() -> None:
    ids = [row.id for row in ASSUMPTIONS]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    for row in ASSUMPTIONS:
        assert row.claim, row
        assert row.source, row
        assert row.rests, row


def test_every_row_that_can_be_red_is_seen_red() -> None:
    """One that only a host can fail, and one whose bill grows, have a test of their own."""
    apart = {"V-30", "V-63"}
    assert {row for case in CASES.values() for row in case.rows} == {r.id for r in ASSUMPTIONS if r.trial} - apart
