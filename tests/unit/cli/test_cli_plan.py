"""The plan before the money: what is shown, who is asked, and what is rented when nobody says yes: nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from harness.cli import plan as plan_command
from harness.cli import plan_view
from harness.cli import run as run_command
from harness.cli.confirming import agreeing
from harness.context import JobContext
from harness.core.clock import SystemClock
from harness.core.errors import Refused
from harness.core.ids import InstanceId, JobName, OfferId
from harness.core.lifecycle import Stage
from harness.job import layouts
from harness.ledger.events import Launched, Lost, PlanAgreed, Rented, RentIntended, StageEntered, Trained
from harness.ledger.history import History
from harness.ledger.sql import open_store
from harness.runner import renting
from harness.runner.renting import RentPlan
from tests.support.context import Telling, World, make_world
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import Log, events_of, job
from tests.support.scripted_world import Market, offer
from tests.support.typing_commands import typing
from tests.unit.ledger.test_ledger_timings import log

SWEDEN = dataclasses.replace(
    offer(501), place="Sweden, SE", usd_per_gb_up=0.003, usd_per_gb_down=0.002, disk_usd_per_hour=0.0311
)
TEXAS = dataclasses.replace(
    SWEDEN, id=OfferId(502), place="Texas, US", usd_per_hour=15.99, reliability=0.961, inet_up_mbps=90.0
)


def a_plan(of: Any = None, meaning: str = "", **told: Any) -> RentPlan:
    return renting.plan(of or job(), [SWEDEN, TEXAS], told.get("earlier", ()), None, meaning=meaning)


def shown(plan: RentPlan, width: int = 140) -> str:
    return "\n".join(plan_view.lines(plan, width))


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 200])
@pytest.mark.parametrize(
    "told",
    [
        "$15.90",
        "$15.99",
        "8x H100 SXM",
        "Sweden, SE",
        "Texas, US",
        "99.5%",
        "96.1%",
        "6,000/4,000",
        "6,000/90",
        "12.8",
        "2,000 GB",
        "0.002/0.003",
        "boot and install",
        "base download",
        "32 min",
        "$8.53",
        "download home",
        "total",
        "65 min",
        "$17.36",
        "profile",
        "cap: $20.00",
    ],
)
def test_the_plan_tells_it_at_any_width(told: str, width: int) -> None:
    said = shown(a_plan(), width)
    assert told in said, said


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    plan = a_plan(job(package={"evaluate": ["judge"]}), "it died " * 30)
    for line in plan_view.lines(plan, width):
        assert len(line) <= width, line


def test_what_happens_at_the_cap_is_said_with_the_price_of_the_disk() -> None:
    said = " ".join(shown(a_plan()).split())
    assert (
        "At the cap the instance is stopped; its disk is kept, with everything on it, and bills on at $0.0311/h" in said
    )
    assert "above the cap" not in said
    poor = " ".join(shown(a_plan(job(limits={"budget_usd": 9.0}))).split())
    assert "The forecast is above the cap." in poor


def test_the_machine_that_is_demanded_is_said() -> None:
    said = " ".join(shown(a_plan()).split())
    assert "job night rents at vast: 8x H100_SXM with 150 GB of disk" in said
    assert "reliability 95.0% or more, CUDA 12.6 or newer, 200 Mb/s down or more, for at most $16.00/h" in said


def test_the_parts_add_up_to_the_total() -> None:
    plan = a_plan()
    best = plan.forecasts[0]
    assert sum(part.usd for part in best.parts) == pytest.approx(best.usd)
    assert sum(part.seconds for part in best.parts) == pytest.approx(best.seconds)


def test_figures_of_earlier_jobs_are_called_own_history() -> None:
    said = shown(a_plan(earlier=[log(training=1000).history]))
    assert "own history (1 job)" in said
    assert "profile" not in said.replace("profile)", "")


EMBEDDED = {"provider": {"kind": "emulated"}}


def test_embedded_money_is_called_so_and_real_money_is_not() -> None:
    for of, embedded in ((job(**EMBEDDED), True), (job(), False)):
        plan = a_plan(of)
        assert ("(embedded: no real money)" in shown(plan)) is embedded
        assert ("(embedded: no real money)" in plan_view.in_short(plan)) is embedded
        assert plan_view.as_json(plan)["embedded"] is embedded


def test_in_short_it_is_one_line() -> None:
    assert plan_view.in_short(a_plan()) == (
        "the plan: 8x H100 SXM in Sweden, SE, $15.90/h; about 65 min and $17.36 in all, at most $20.00"
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.4, "0 s"),
        (41, "41 s"),
        (119.4, "119 s"),
        (125, "2 min"),
        (3912, "65 min"),
        (7170, "2 h 00 min"),
        (7400, "2 h 03 min"),
    ],
)
def test_a_time_is_told_no_more_exactly_than_it_is_known(seconds: float, told: str) -> None:
    assert plan_view.duration(seconds) == told


def test_words_of_a_host_cannot_draw_on_the_terminal() -> None:
    from harness.providers.row import Row
    from harness.providers.vast import offers

    assert offers._place(Row("an offer", {"geolocation": "\x1b[2JSweden,\n SE "})) == "Sweden, SE"
    assert offers._place(Row("an offer", {"geolocation": ["x"]})) == ""
    assert offers._place(Row("an offer", {"geolocation": ", SE"})) == "SE"


# --- strategies -----------------------------------------------------------------------------------

NVL = dataclasses.replace(SWEDEN, id=OfferId(601), gpu_name="H100 NVL", num_gpus=1, usd_per_hour=2.1)
H200 = dataclasses.replace(SWEDEN, id=OfferId(602), gpu_name="H200", num_gpus=1, usd_per_hour=2.6)


A_JOB = job()


class Models(Market):
    """A market that looks at the GPU's name and number, as every real one does."""

    def search(self, query: Any) -> tuple[Any, ...]:
        wanted = query.gpu_names[0].replace("_", " ")
        return tuple(
            one
            for one in Market.search(self, query)
            if one.num_gpus == query.num_gpus and (one.gpu_name == wanted or one.gpu_name.startswith(f"{wanted} "))
        )


def beside(*offers: Any, of: Any = None, earlier: Any = ()) -> tuple[renting.Beside, ...]:
    return renting.beside(of or A_JOB, Models(FakeClock(), offers=list(offers)), earlier, None)


def test_strategies_stand_beside_each_other_the_cheapest_first() -> None:
    found = beside(SWEDEN, TEXAS, NVL, H200)
    assert [str(layouts.layout(one.job, one.offer.gpu_name)) for one in found] == [
        "single on 1x H100 NVL",
        "single on 1x H200",
        "ddp on 8x H100 SXM",
        "seeds on 8x H100 SXM",
    ]
    assert [one.forecast.usd for one in found] == sorted(one.forecast.usd for one in found)
    steps = 330 * 4.4 + 80 * 6
    seconds = [next(part.seconds for part in one.forecast.parts if part.name == "training") for one in found]
    assert seconds == pytest.approx([steps * 2.5 * 989 / 835, steps * 2.5, steps * 2.5 / 3, steps])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_of_strategies_says_what_each_rests_on(width: int) -> None:
    found = beside(SWEDEN, NVL, H200)
    lines = list(plan_view.beside(found, A_JOB, width))
    assert all(len(line) <= width for line in lines), lines
    said = " ".join(" ".join(lines).split())
    assert "seeds on 8x H100 SXM * 32 min 65 min $17.36 $15.90/h; steps: profile" in said
    assert "steps: profile x 2.5, from seeds on 8x H100_SXM" in said
    assert said.count("risk of ") == 3
    assert "risk of ddp: needs the proof on the box before the training" in said


def test_a_gpu_that_does_not_hold_the_model_is_no_way() -> None:
    small = dataclasses.replace(H200, gpu_ram_mb=16_000.0)
    assert [layouts.of(one.job).name for one in beside(SWEDEN, small)] == ["ddp", "seeds"]


def test_a_job_with_one_way_says_nothing_of_strategies() -> None:
    of = job(training={"accelerator": "cpu"})
    (only,) = beside(SWEDEN, NVL, H200, of=of)
    assert not list(plan_view.beside((only,), of, 120))


def test_a_single_gpu_that_ran_before_is_told_by_what_it_took() -> None:
    """The job file of one on a single GPU says so; this one's figure of eight goes before the seeds' ratio."""
    ran = log(job(machine={"gpu": "H200", "gpus": 1}), board="H200", parts={"sft": 100, "export": 1700}).history
    (h200,) = (one for one in beside(SWEDEN, H200, earlier=[ran]) if one.offer.gpu_name == "H200")
    steps = next(part for part in h200.forecast.parts if part.name == "training")
    assert steps.seconds == pytest.approx(1600)
    assert steps.source == "own history (1 job) x 1, from seeds on 1x H200"


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_how_far_earlier_plans_were_off_is_said_in_the_next(jobs: int) -> None:
    earlier = []
    for _ in range(jobs):
        made = Log().add(a_plan().agreed("--yes"))
        offer = dataclasses.asdict(SWEDEN)
        made.add(RentIntended("gsh-1", offer, 7)).add(Rented(InstanceId(1), "gsh-1", offer, 15.9, 7))
        made.add(Launched(("train",), "launch"), after=400).add(Trained(made.at + 2000), after=2000)
        earlier.append(made.history)
    said, told = shown(a_plan(earlier=earlier)), plan_view.as_json(a_plan(earlier=earlier))
    assert told["errors"] == (
        {
            "setup": {"share": pytest.approx(0.5), "jobs": jobs},
            "loading, training and export": {"share": pytest.approx(2412 / 2000 - 1), "jobs": jobs},
            "in all": {"share": pytest.approx((600 + 2412) / 2400 - 1), "jobs": jobs},
        }
        if jobs
        else {}
    )
    assert ("such forecasts were off by 26% in all" in said) is bool(jobs)
    assert ("setup 50%, loading, training and export 21%" in " ".join(said.split())) is bool(jobs)


# --- the question ---------------------------------------------------------------------------------


class _Terminal:
    def __init__(self, *, is_one: bool) -> None:
        self._is_one = is_one

    def isatty(self) -> bool:
        return self._is_one


def _context(*events: Any) -> JobContext:
    made = Log()
    for event in events:
        made.add(event)
    return cast("JobContext", SimpleNamespace(job=made.job, history=made.history))


LOST = Lost(InstanceId(4711), "yes", 12, None, absence={}, billing=None)


def _asked(
    monkeypatch: pytest.MonkeyPatch, plan: RentPlan, *typed: str, context: JobContext | None = None, **options: Any
) -> tuple[str | None, str]:
    """How a plan is agreed to when these words are typed (none: without a terminal), and what is shown meanwhile."""
    words, file = iter(typed), io.StringIO()

    def answer(*_arguments: Any, **_words: Any) -> str:
        return next(words)

    console = Console(file=file, width=140)
    monkeypatch.setattr(console, "input", answer)
    monkeypatch.setattr(sys, "stdin", _Terminal(is_one=bool(typed)))
    told = {"in_advance": False, "loss": None, **options}
    how = agreeing(context or _context(), console, Telling(), **told).to_rent(plan)
    return how, file.getvalue()


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [
        (["rent"], True),
        ([" rent \n"], True),
        (["yes", "rent"], True),
        (["y", "4711", "rent"], True),
        ([""], False),
        (["no"], False),
        (["N"], False),
        (["rnet", "n"], False),
    ],
)
def test_a_rental_is_agreed_to_by_its_word(typed: list[str], agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    how, said = _asked(monkeypatch, a_plan(), *typed)
    assert how == ("typed at the terminal" if agreed else None)
    assert "Sweden, SE" in said


def test_a_wrong_word_is_asked_again_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="'ja' was typed where 'rent' belongs"):
        _asked(monkeypatch, a_plan(), "yes", "Rent it", "ja", "rent")


def test_where_nobody_sits_the_plan_is_shown_and_nobody_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    how, said = _asked(monkeypatch, a_plan())
    assert how is None
    assert "total" in said


@pytest.mark.parametrize("meaning", ["", "it died"])
@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("yes", [False, True])
@pytest.mark.parametrize("replace", [False, True])
def test_each_option_agrees_to_its_own_rental(
    meaning: str, lost: bool, yes: bool, replace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--yes`` never gives up a dead instance; ``--replace-dead-instance`` rents none where none has died."""
    context = _context(*[LOST] * lost)
    how, said = _asked(monkeypatch, a_plan(meaning=meaning), context=context, yes=yes, in_advance=replace)
    assert "total" in said, "what is agreed to in advance is shown all the same"
    assert bool(how) is (replace if meaning or lost else yes)


def test_a_demo_shows_its_plan_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    how, said = _asked(monkeypatch, a_plan(job(**EMBEDDED)), yes=True, brief=True)
    assert how == "--yes, given in advance"
    assert len(said.splitlines()) == 1
    assert "embedded: no real money" in said


# --- the commands ---------------------------------------------------------------------------------

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Market:
    made = Market(FakeClock(), offers=[SWEDEN, TEXAS])
    monkeypatch.setattr(plan_command, "open_provider", lambda *_: made)
    return made


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return typing(monkeypatch, capsys)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "night.toml"
    path.write_text(f"name = 'night'\nprofile = 'forex-r1-v3'\npackage.source = '{tmp_path}'\n")
    return str(path)


def test_the_plan_of_a_file_needs_no_package_and_leaves_no_job(ask: Ask, market: Market, file: str) -> None:
    code, out, _ = ask("plan", file)
    assert code == 0
    assert "Sweden, SE" in out
    assert "ways to train it, the cheapest first" in out
    assert f"nothing was rented; harness run {file} shows this again after preflight, and asks" in out
    assert ask("status")[1].startswith("no job has been run yet")
    assert market.created == 0


def test_the_plan_for_machines_is_one_json_object(ask: Ask, market: Market, file: str) -> None:
    del market
    code, out, _ = ask("plan", file, "--json")
    told = json.loads(out)
    assert code == 0
    assert [(one["id"], one["place"], one["usd_per_hour"]) for one in told["offers"]] == [
        (501, "Sweden, SE", 15.9),
        (502, "Texas, US", 15.99),
    ]
    assert sum(part["usd"] for part in told["parts"]) == pytest.approx(told["usd"])
    assert (told["budget_usd"], told["max_usd_per_hour"], told["embedded"]) == (20.0, 16.0, False)
    assert told["machine"]["gpus"] == 8
    assert [one["usd"] for one in told["strategies"]] == sorted(one["usd"] for one in told["strategies"])
    assert {one["strategy"] for one in told["strategies"]} == {"seeds", "ddp", "single"}
    for one in told["strategies"]:
        assert sum(part["usd"] for part in one["parts"]) == pytest.approx(one["usd"])
        assert one["risk"]


def _write(home: Path, log: Log) -> None:
    home.mkdir(exist_ok=True)
    store = open_store(home / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)


def test_a_begun_job_is_planned_by_its_name_with_what_others_took(ask: Ask, market: Market, tmp_path: Path) -> None:
    del market
    _write(tmp_path / "home", log(job().model_copy(update={"name": JobName("earlier")})))
    _write(tmp_path / "home", Log())
    code, out, _ = ask("plan", "night")
    assert code == 0
    assert "own history (1 job)" in out


@pytest.mark.parametrize("machines", [[], ["--json"]])
def test_a_job_with_an_instance_has_nothing_left_to_plan(
    ask: Ask, market: Market, tmp_path: Path, machines: list[str]
) -> None:
    del market
    _write(tmp_path / "home", Log().rented())
    code, out, _ = ask("plan", "night", *machines)
    assert code == 0
    assert "4711" in out
    assert "Sweden" not in out


@pytest.mark.parametrize("machines", [[], ["--json"]])
def test_a_job_that_may_have_rented_has_nothing_left_to_plan(
    ask: Ask, market: Market, tmp_path: Path, machines: list[str]
) -> None:
    del market
    _write(tmp_path / "home", Log().add(RentIntended("gsh-night-1", {"id": 501}, 7)))
    code, out, _ = ask("plan", "night", *machines)
    assert code == 0
    assert "Sweden" not in out
    assert ('"in_doubt": true' if machines else "has rented what may be an instance already") in out


def test_an_agreement_that_stands_is_said(ask: Ask, market: Market, tmp_path: Path) -> None:
    del market
    _write(tmp_path / "home", Log().add(a_plan().agreed("typed at the terminal")))
    said = " ".join(ask("plan", "night")[1].split())
    assert "(typed at the terminal), and that stands: without asking again, harness run night rents the first" in said
    assert "501, 502" in said


def test_without_an_offer_the_plan_is_held(ask: Ask, market: Market, file: str) -> None:
    market.offers = []
    code, _, err = ask("plan", file)
    assert code == 3
    assert "no offer has 8x H100_SXM for at most $16.00/h" in err


def test_no_such_job_is_said(ask: Ask, market: Market) -> None:
    del market
    assert ask("plan", "nothere")[0] == 2


@pytest.mark.parametrize("brief", [False, True])
def test_a_plan_without_offers_says_why_it_is_asked_for(brief: bool) -> None:
    shown = RentPlan(job(), (), (), "instance 5 died. Another instance costs at most $9.00")
    said = " ".join(plan_view.told(shown, Console(file=io.StringIO(), width=200), brief=brief))
    assert "instance 5 died. Another instance costs at most $9.00" in said
    assert ("no offer fits now" in said) is not brief


# --- run --dry-run --------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.open()
    return made


def _rehearsed(world: World) -> str:
    telling, file = Telling(), io.StringIO()
    run_command._rehearse(cast("Any", world.context()), Console(file=file, width=140), telling)
    return file.getvalue() + "\n".join(telling.notes)


def test_a_dry_run_stops_before_the_money(world: World) -> None:
    said = _rehearsed(world)
    assert "8x H100 SXM" in said
    assert "nothing was rented" in said
    history: History = world.history
    assert history.passed(Stage.PREFLIGHT)
    assert not {PlanAgreed, RentIntended} & set(world.kinds())
    assert StageEntered(Stage.PROVISION) not in history.all(StageEntered)
    assert world.provider.count("create") == 0
    judged = list(world.judged)
    _rehearsed(world)
    assert world.judged == judged, "preflight has passed, and nothing changed since"


def test_a_dry_run_of_long_after_judges_preflight_again(world: World) -> None:
    _rehearsed(world)
    world.clock.turn(2 * 86_400)
    assert "preflight is judged again" in _rehearsed(world)
    assert world.judged == [Stage.PREFLIGHT] * 2


def test_a_dry_run_says_what_a_run_would_not_ask(world: World) -> None:
    assert "stands" not in _rehearsed(world)
    context = world.context()
    context.record(renting.plan(world.job, world.market.offers, (), None).agreed("typed at the terminal"))
    assert "stands: without asking again" in _rehearsed(world)
    world.clock.turn(3700)
    assert "stands" not in _rehearsed(world)


def test_a_dry_run_of_a_job_with_an_instance_touches_nothing(world: World) -> None:
    world.run(until=Stage.LAUNCH)
    before = world.history.head
    (Path(world.job.package.source) / "train_deepseek_forex.py").write_text("# mended\n")
    assert "has rented instance 4711 already" in _rehearsed(world)
    assert world.history.head == before
