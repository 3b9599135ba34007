"""A conformance run that is broken off, anywhere and by anything, leaves nothing that bills, or is found and ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness.cli.orphans import survey
from harness.conformance import run as conformance
from harness.conformance.run import LEAST_S, MOST_S, RESERVE_S, Outcome
from harness.core.errors import Conflict, GateHeld, HarnessError, NotProven, OfferGone, Refused
from harness.core.ids import InstanceId
from harness.core.ports import CreateRequest, Provider
from harness.emulator.scenario import ApiFault
from harness.job.provider import ProviderTable
from harness.ledger import ownership
from harness.ledger.ownership import Known, Standing
from harness.ledger.throwaway import Throwaway, TrialStep
from tests.support.conformance_kit import FolderBox, Service, service
from tests.support.emulator_kit import create_request
from tests.support.faulty_provider import FaultyProvider

pytest.importorskip("vastai")

TABLE = ProviderTable(kind="vast")


class Killed(BaseException):
    """The process dies here: nothing may catch it and go on."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with service(tmp_path) as found:
        yield found


def whose(served: Service, provider: Provider) -> list[tuple[Standing, str]]:
    """Everything that ``harness orphans`` shows, as another process would."""
    known = ownership.known((), TABLE, (), served.journals())
    return [(row.standing, row.whose) for rows in survey(provider, known).values() for row in rows.get()]


def left(served: Service) -> bool:
    return bool(served.world.rentals() or served.world.state.scoped_keys)


MOMENTS = ("V-01", "V-15", "V-20", "V-25", "V-36", "V-42", "V-50", "V-54", "V-60", "V-62", "V-65")


@pytest.mark.parametrize(
    ("row", "error"), [*((row, KeyboardInterrupt) for row in MOMENTS), ("V-36", SystemExit), ("V-50", MemoryError)]
)
def test_whatever_breaks_it_off_the_instance_goes(row: str, error: type[BaseException], served: Service) -> None:
    work = served.run()

    def note(text: str) -> None:
        if text.startswith(row):
            raise error

    work.note = note
    with pytest.raises(error):
        work.go()
    assert not left(served)
    assert any(one.outcome is Outcome.HOLDS for one in work.answers())
    for journal in served.journals():
        assert journal.instance_id is None or journal.last(TrialStep.GONE) is not None


def test_a_trial_that_crashes_is_untried_and_the_run_goes_on(served: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(FolderBox, "host_key", crash)
    work = served.run()
    work.go()
    found = {one.row.id: one for one in work.answers()}
    assert found["V-37"].outcome is Outcome.UNTRIED
    assert "ZeroDivisionError" in found["V-37"].seen
    assert found["V-52"].outcome is Outcome.HOLDS
    assert not left(served)


def test_the_budget_ends_it_while_it_runs(served: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command on the box hangs for an hour."""
    run_on_box = FolderBox.run

    def hang(box: FolderBox, argv: Any, **more: Any) -> Any:
        served.clock.turn(3600.0 if argv[0] == "printf" else 0.0)
        return run_on_box(box, argv, **more)

    monkeypatch.setattr(FolderBox, "run", hang)
    work = served.run()
    work.go()
    found = {one.row.id: one.outcome for one in work.answers()}
    assert found["V-38"] is Outcome.HOLDS
    assert found["V-40"] is found["V-52"] is Outcome.UNTRIED
    assert found["V-61"] is Outcome.HOLDS
    assert any("the budget is used up" in line for line in served.said)
    assert not left(served)


@pytest.mark.parametrize("budget", [0.2, 0.25, 1.0, 50.0])
def test_a_service_that_never_gets_on_costs_no_more_than_the_budget(budget: float, tmp_path: Path) -> None:
    with service(tmp_path, pace={"loading_s": 1e6, "running_s": 1e6}) as served:
        work = served.run(budget)
        offer = work.plan.offers[0]
        assert LEAST_S <= work.plan.seconds(offer) <= MOST_S
        assert work.plan.most(offer) <= budget + 1e-9
        work.go()
        assert work.bench.existed_for() <= work.plan.seconds(offer) + RESERVE_S
        assert served.world.state.charges.total() <= budget


def test_what_costs_more_than_it_was_offered_for_ends_the_sooner(tmp_path: Path) -> None:
    api = [{"route": "GET /api/v0/instances/24000004", "do": "edit", "times": 0, "set": {"instances.dph_total": 5.0}}]
    with service(tmp_path, api=api) as served:
        work = served.run()
        work.go()
        found = {one.row.id: one.outcome for one in work.answers()}
        assert found["V-32"] is Outcome.WRONG
        assert found["V-30"] is Outcome.UNTRIED, "at that price the budget pays for nothing more"
        assert found["V-61"] is Outcome.HOLDS
        assert work.bench.ended_at is not None
        assert work.bench.ended_at - work.bench.began_at < 60
        assert not left(served)


def test_a_service_that_is_down_when_it_should_go_is_asked_until_it_answers(served: Service) -> None:
    work = served.run()

    def note(text: str) -> None:
        if text.startswith("V-54"):
            down = {"status": 502, "body": "<html>", "content_type": "text/html", "times": 13}
            fault = {"route": "GET /api/v0/instances/24000004", "do": "reply", **down}
            served.world.faults.add(ApiFault.model_validate(fault))
        served.said.append(text)

    work.note = note
    work.go()
    assert sum("trying again" in line for line in served.said) == 3
    assert {one.outcome for one in work.answers() if one.row.trial} == {Outcome.HOLDS}
    assert not left(served)


@pytest.mark.parametrize("budget", [0.01, 0.1])
def test_a_budget_for_which_nothing_fits_rents_nothing(budget: float, served: Service) -> None:
    with pytest.raises(GateHeld, match="no offer of"):
        served.run(budget)
    assert not left(served)


def test_an_offer_at_a_price_that_nobody_asks_is_not_taken(tmp_path: Path) -> None:
    bait = [
        {"gpu_name": "RTX 3090", "dph_base": 1e-6},
        {"gpu_name": "RTX 3070", "dph_base": 0.1, "inet_down_cost": 5.0},
    ]
    with service(tmp_path, offer=bait) as served:
        assert {one.gpu_name for one in served.run().plan.offers} == {"RTX 4090"}


def test_one_with_a_direct_port_comes_before_a_cheaper_one(tmp_path: Path) -> None:
    more = [{"gpu_name": "RTX 3090", "dph_base": 0.40}]
    with service(tmp_path, offer=more) as served:
        assert [one.gpu_name for one in served.run().plan.offers] == ["RTX 3090", "RTX 4090"]


def test_offers_that_are_gone_are_passed_over_and_none_is_an_error(tmp_path: Path) -> None:
    with service(tmp_path, offer=[{"gpu_name": "RTX 3090", "dph_base": 0.40}]) as served:
        work = served.run()
        served.world.state.asks.pop(int(work.plan.offers[0].id))
        work.go()
        assert work.bench.offer.gpu_name == "RTX 4090"
        assert not left(served)
        gone = served.run()
        for offer in gone.plan.offers:
            served.world.state.asks.pop(int(offer.id))
        with pytest.raises(OfferGone):
            gone.go()
        assert not served.journals()[-1].may_bill


def test_a_destroy_that_never_works_is_said_loudly_and_found_again(served: Service) -> None:
    def stubborn(provider: Provider) -> Provider:
        wrapped = FaultyProvider(provider)
        wrapped.break_("destroy", HarnessError("no"), times=1)
        return wrapped

    served.changed = stubborn
    work = served.run()
    with pytest.raises(HarnessError, match="no"):
        work.go()
    (journal,) = served.journals()
    assert journal.may_bill
    assert journal.last(TrialStep.DESTROY_INTENDED) is not None
    served.changed = lambda provider: provider
    subject = served.subject()
    assert [one for one in whose(served, subject.provider) if "--end ends it" in one[1]]
    conformance.end(subject, journal, served.clock, Known(), served.said.append)
    assert not left(served)


STEPS = [step for step in TrialStep if step is not TrialStep.NOT_RENTED]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_is_found_and_ended_by_the_next(
    step: TrialStep, after: bool, served: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead: list[TrialStep] = []
    record = Throwaway.record

    def killing(run: Throwaway, now: TrialStep, **told: Any) -> None:
        if dead:
            raise Killed
        if now is step and after:
            record(run, now, **told)
        if now is step:
            dead.append(now)
            raise Killed
        record(run, now, **told)

    monkeypatch.setattr(Throwaway, "record", killing)
    with pytest.raises(Killed):
        served.run().go()
    monkeypatch.setattr(Throwaway, "record", record)
    served.clock.turn(5.0)
    subject = served.subject()
    alive, journals = dict(served.world.rentals()), served.journals()
    if alive:
        shown = whose(served, subject.provider)
        found = [standing for standing, told in shown if "conformance --provider vast --end" in told]
        assert found == [Standing.FORGOTTEN]
    for journal in journals:
        conformance.end(subject, journal, served.clock, Known(), served.said.append)
        assert not journal.may_bill
        assert not journal.keeps_keys
    assert not left(served)
    assert not [one for one in whose(served, subject.provider) if one[0] is not Standing.OWNED]


def test_a_torn_last_line_is_a_step_that_was_not_taken(served: Service) -> None:
    work = served.run()
    journal = work.bench.run
    with (journal.folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"step": "rented", "insta')
    (read,) = served.journals()
    assert read.steps == journal.steps
    conformance.end(served.subject(), read, served.clock, Known(), served.said.append)
    work.go()
    assert len(served.journals()[0].steps) == len(journal.steps) > 5


def test_a_journal_that_does_not_read_hides_no_instance(served: Service) -> None:
    work = served.run()
    work.bench.run.record(TrialStep.RENT_INTENDED, label=work.bench.run.label, offer={})
    work.bench.subject.provider.create(work.plan.offers[0].id, _request(work.bench.run))
    (work.bench.run.folder / "journal.jsonl").write_text("{]\n")
    assert served.journals() == ()
    assert [standing for standing, _ in whose(served, work.bench.subject.provider)][:1] == [Standing.ORPHAN]


def test_a_run_that_is_at_work_is_nobody_elses_to_end(served: Service) -> None:
    work = served.run()
    other = served.journals()[0]
    told: list[str] = []

    def note(text: str) -> None:
        if text.startswith("V-21"):
            told.extend(one[1] for one in whose(served, work.bench.subject.provider))
            with pytest.raises(Conflict):
                conformance.end(served.subject(), other, served.clock, Known(), told.append)

    work.note = note
    work.go()
    assert any("which is at work now" in one for one in told)


def test_a_label_that_is_dropped_leaves_the_instance_alone_and_says_so(tmp_path: Path) -> None:
    """Without its label nothing shows whose it is: the door stays shut, and a person is told the number."""
    api = [{"route": "GET /api/v0/instances/{id}", "do": "edit", "times": 0, "set": {"instances.label": None}}]
    with service(tmp_path, api=api) as served:
        work = served.run()
        with pytest.raises(Refused, match="it bears the label None"):
            work.go()
        assert {one.row.id for one in work.answers() if one.outcome is Outcome.WRONG} == {"V-23"}
        assert served.journals()[0].may_bill
        assert [*map(InstanceId, served.world.rentals())] == [served.journals()[0].instance_id]


def test_an_account_that_holds_more_controls_the_proof_and_keeps_what_it_has(served: Service) -> None:
    own = served.world.create(7_100_001, create_request(label="somebody's"))
    served.run().go()
    assert list(served.world.rentals()) == [own.id]


def test_a_proof_that_fails_is_an_error_of_its_own(served: Service) -> None:
    def never_billed(provider: Provider) -> Provider:
        wrapped = FaultyProvider(provider)
        wrapped.break_("charges", (), times=0)
        return wrapped

    served.changed = never_billed
    with pytest.raises(NotProven, match="the end of its bill"):
        served.run().go()
    (journal,) = served.journals()
    assert journal.last(TrialStep.GONE) is not None
    served.changed = lambda provider: provider
    conformance.end(served.subject(), journal, served.clock, Known(), served.said.append)
    assert not journal.may_bill


def _request(run: Throwaway) -> CreateRequest:
    return CreateRequest("ubuntu:22.04", 10.0, run.label)
