"""What the report says follows from the event log: how the job stands, what it cost, what could be lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import BadInput
from harness.core.ids import InstanceId, JobName
from harness.core.lifecycle import Stage
from harness.core.ports import Charge
from harness.core.verdict import Verdict
from harness.ledger import billing, chain
from harness.ledger.codec import encode
from harness.ledger.events import (
    ArtifactRecorded,
    CheckpointMirrored,
    Closed,
    Destroyed,
    DestroyIntended,
    DestroyRequested,
    Fetched,
    Held,
    InstanceStarted,
    InstanceStopped,
    Relaunched,
    Released,
    RentIntended,
    StageEntered,
    Trained,
)
from harness.ledger.kinds import JobEvent
from harness.release import release as releases
from harness.report import Form, Report, build, write
from harness.report.model import JobStanding, StageState
from harness.report.moments import timeline
from harness.report.writing import dump
from tests.support.job_histories import (
    BEGAN,
    DIGEST,
    INSTANCE,
    KINDS,
    LABEL,
    LOCAL,
    SIZE,
    Log,
    any_of,
    check,
    gate,
    job,
    judged,
    polled,
    trained,
)


def _report(log: Log, after: float = 0) -> Report:
    return build(log.history, now=log.at + after, charges=None)


def _held(log: Log) -> Log:
    return log.add(Held(stage=Stage.TRAINING, error="GateHeld", reason="stage training is held: loss_is_sane"))


@pytest.mark.parametrize(
    ("make", "stands", "safe"),
    [
        (Log, JobStanding.UNDER_WAY, "Nothing is rented"),
        (trained, JobStanding.UNDER_WAY, "bills $16.00/h. harness run night goes on"),
        (lambda: _held(Log().rented()), JobStanding.HELD, "do not destroy it"),
        (Log().verified, JobStanding.UNDER_WAY, "the verified model is here"),
        (
            lambda: Log().trained().add(InstanceStopped(INSTANCE, "budget")),
            JobStanding.UNDER_WAY,
            "is stopped: only its disk bills, at the provider's storage price.",
        ),
        (lambda: Log().verified().add(DestroyIntended(INSTANCE, "cd" * 32)), JobStanding.UNDER_WAY, "not proven"),
        (lambda: Log().add(RentIntended(LABEL, {}, owner=7)), JobStanding.UNDER_WAY, "an instance may bill"),
        (Log(job(provider={"kind": "emulated"})).verified, JobStanding.UNDER_WAY, "(embedded: no real money)"),
        (Log().closed, JobStanding.CLOSED, "Nothing is lost and nothing is billed."),
        (lambda: Log().trained().add(Destroyed(INSTANCE, {})), JobStanding.LOST, "What was on the instance is lost."),
    ],
)
def test_how_it_stands_and_what_could_be_lost(make: Callable[[], Log], stands: JobStanding, safe: str) -> None:
    report = _report(make())
    assert report.standing is stands
    assert safe in report.safety


def test_a_destruction_that_was_begun_without_a_release_goes_on_by_the_command_that_began_it() -> None:
    report = _report(Log().trained().add(DestroyIntended(INSTANCE, None)))
    assert report.next_step == "harness abandon night"
    assert "harness abandon night proves the end" in report.safety


def test_a_job_whose_instance_may_live_is_never_called_closed() -> None:
    report = _report(Log().verified().add(Closed()))
    assert report.standing is JobStanding.UNDER_WAY
    assert "bills $16.00/h" in report.safety


def test_each_stage_has_its_time_and_its_dollars() -> None:
    stages = {stage.stage: stage for stage in _report(Log().closed()).stages}
    assert all(stage.state is StageState.PASSED for stage in stages.values())
    assert stages[Stage.PREFLIGHT].usd == 0
    assert stages[Stage.TRAINING].seconds == pytest.approx(2400)
    assert stages[Stage.TRAINING].usd == pytest.approx(16 * 2400 / 3600)
    teardown = stages[Stage.TEARDOWN]
    assert teardown.seconds is not None
    assert teardown.usd is not None
    assert teardown.usd < 16 * teardown.seconds / 3600  # what came after the destruction was not paid for


def test_the_provisions_dollars_begin_with_the_rental() -> None:
    provision = _report(Log().trained()).stages[1]
    assert provision.seconds == pytest.approx(140)
    assert provision.usd == pytest.approx(16 * 120 / 3600)


def test_the_idle_dollars_of_the_stages_are_those_of_the_job() -> None:
    report = _report(Log().closed())
    assert sum(stage.idle_usd or 0.0 for stage in report.stages) == pytest.approx(report.money.idle_usd, rel=0.1)
    assert next(stage.idle_usd for stage in report.stages if stage.stage is Stage.TRAINING) == 0
    assert all(stage.idle_usd is None for stage in _report(Log().rented()).stages)


@pytest.mark.parametrize(
    ("told", "rate"),
    [(8.0, 1e6), (None, None), ("fast", None), (0, None), (-3.0, None), (float("nan"), None), (1e300, None)],
)
def test_the_offered_line_is_told_when_the_offer_tells_it(told: object, rate: float | None) -> None:
    log = Log().rented()
    offer = {"gpu_name": "H100", "num_gpus": 8} | ({} if told is None else {"inet_up_mbps": told})
    history = log.history
    assert history.rental is not None
    bent = dataclasses.replace(history, rental=dataclasses.replace(history.rental, offer=offer))
    assert build(bent, now=log.at, charges=None).money.line_bytes_per_s == rate


def test_idle_time_is_paid_time_after_the_training() -> None:
    log = Log().closed()
    history = log.history
    ended, gone = billing.training_ended_at(history), billing.gone_at(history.records)
    assert ended is not None
    assert gone is not None
    report = _report(log, after=5000)
    assert report.money.idle_s == pytest.approx(gone - ended)
    assert report.money.idle_usd == pytest.approx(16 * (gone - ended) / 3600)
    assert report.money.paid_s == pytest.approx(gone - history.rental.at if history.rental else -1)
    assert _report(Log().rented(), after=100).money.idle_s == 0


def test_idle_time_begins_when_the_training_really_ended_and_is_held_against_the_bytes() -> None:
    log = Log().trained()
    noticed = log.at
    log.add(Trained(at=noticed - 40))
    log.add(ArtifactRecorded(path="/m.gguf", size=SIZE, sha256=DIGEST))
    log.add(Fetched(path=LOCAL, size=SIZE, sha256=DIGEST, bytes_per_s=SIZE / 100), after=170)
    spent = _report(log, after=10).money
    assert spent.idle_s == pytest.approx(40 + 10 + 10 + 170 + 10)
    assert spent.bytes_s == pytest.approx(100)
    assert spent.waste == pytest.approx(1 - 100 / 240)
    log.add(Relaunched((), "died"))
    assert log.history.trained_at is None, "an earlier end is not the end of what was started again"


@pytest.mark.parametrize("rate", [None, 0.0])
def test_without_a_rate_no_share_is_made_up(rate: float | None) -> None:
    log = Log().trained().add(ArtifactRecorded(path="/m.gguf", size=SIZE, sha256=DIGEST))
    log.add(Fetched(path=LOCAL, size=SIZE, sha256=DIGEST, bytes_per_s=rate))
    spent = _report(log, after=10).money
    assert spent.idle_s > 0
    assert (spent.bytes_s, spent.waste) == (None, None)


def test_a_request_that_was_not_proven_goes_on_billing() -> None:
    log = Log().verified().add(DestroyRequested(instance_id=INSTANCE, reply="accepted"))
    instance = _report(log).instance
    assert instance is not None
    assert instance.gone_at is None
    assert _report(log, after=3600).money.usd - _report(log).money.usd == pytest.approx(16)


def test_the_first_of_two_requests_is_not_the_end_when_a_second_was_needed() -> None:
    log = Log().verified().add(DestroyRequested(instance_id=INSTANCE, reply="accepted"))
    log.add(DestroyRequested(instance_id=INSTANCE, reply="accepted"), after=3600)
    second = log.at
    log.add(Destroyed(INSTANCE, {}))
    assert billing.gone_at(log.records) == second
    spans = billing.paid_spans(log.history.records, log.at + 9)
    assert spans[-1].end == second


def test_a_stopped_instance_is_not_paid_by_the_hour() -> None:
    log = Log().rented().add(InstanceStopped(instance_id=INSTANCE, why="budget"), after=360)
    log.add(InstanceStarted(instance_id=INSTANCE), after=10_000)
    log.add(StageEntered(stage=Stage.UPLOAD), after=360)
    assert _report(log).money.paid_s == pytest.approx(720)
    assert billing.spent(log.history, log.at) == pytest.approx(3.2)
    assert billing.spent(Log().history, BEGAN) is None


def test_the_providers_bill_is_added_up_by_kind() -> None:
    charges = tuple(
        Charge(InstanceId(INSTANCE), kind, usd, 0, 1) for kind, usd in (("gpu", 3.0), ("bwd", 0.1), ("gpu", 2.0))
    )
    log = Log().closed()
    billed = build(log.history, now=log.at, charges=charges).money
    assert [(one.kind, one.usd) for one in billed.billed or ()] == [("bwd", 0.1), ("gpu", 5.0)]
    assert billed.billed_usd == pytest.approx(5.1)
    assert build(log.history, now=log.at, charges=()).money.billed_usd == 0
    assert _report(log).money.billed_usd is None  # nobody asked, which is not zero


def test_checks_keep_their_evidence_and_the_silent_ones_show() -> None:
    log = Log().rented()
    result = gate(Stage.PROVISION, log.job, check(Stage.PROVISION, "price_within_cap", Verdict.FAIL))
    told = judged(result)
    heard = [one for one in told.result["results"] if one["id"] != "ssh_answers_fresh"]
    log.add(dataclasses.replace(told, result={**told.result, "results": heard}))
    stage = _report(log).stages[1]
    assert stage.silent == ("ssh_answers_fresh",)
    assert [one.id for one in stage.shut] == ["price_within_cap"]
    assert stage.shut[0].saw[0].value == "42"
    assert (stage.passed, stage.verdict) == (8, Verdict.FAIL)
    assert _report(log).stages[2].silent == (
        "remote_package_matches_manifest",
        "remote_config_as_required",
        "remote_dataset_counts",
    )


def test_a_gate_record_that_does_not_read_is_a_problem_and_no_pass() -> None:
    told = judged(gate(Stage.PROVISION, Log().job))
    log = Log().rented().add(dataclasses.replace(told, result={"results": "none"}))
    stage = _report(log).stages[1]
    assert "does not read" in stage.problems[0]
    assert stage.checks == ()


def test_what_was_held_is_told_and_whether_it_is_over() -> None:
    log = _held(Log().rented())
    assert [(hold.reason, hold.over) for hold in _report(log).holds] == [
        ("stage training is held: loss_is_sane", False)
    ]
    log.add(StageEntered(stage=Stage.PROVISION))
    assert _report(log).holds[0].over
    _held(log)
    assert [hold.over for hold in _report(log).holds] == [True, False]


def test_both_ends_of_the_file_and_the_release_are_named() -> None:
    log = Log().verified()
    release = releases.statement(log.history, "vast", log.at)
    log.add(Released(path="/r.json", sha256="cd" * 32))
    report = build(log.history, now=log.at, charges=None, release=release)
    assert report.artifact is not None
    assert (report.artifact.local_path, report.artifact.local_size) == (LOCAL, SIZE)
    assert report.artifact.local_sha256 == report.artifact.remote_sha256 == DIGEST
    assert report.artifact.verified
    assert report.release is not None
    assert report.release.statement == release
    assert report.instance is not None
    assert report.instance.label == LABEL


def test_the_timeline_counts_equal_polls_and_stays_bounded() -> None:
    log = Log().trained()
    for _ in range(40):
        log.add(polled(gate(Stage.TRAINING, log.job)))
    moments = _report(log).timeline
    assert (moments[-1].text, moments[-1].times) == ("a look at training: pass", 40)
    for step in range(2000):
        log.add(CheckpointMirrored(trainer="sft", step=step))
    assert len(_report(log).timeline) == 501
    assert any("left out here" in moment.text for moment in _report(log).timeline)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_every_kind_of_event_has_a_sentence(kind: type[JobEvent], data: st.DataObject) -> None:
    event = data.draw(any_of(kind))
    (told,) = timeline([chain.seal(chain.EMPTY, JobName("night"), 1.0, *encode(event))])
    assert told.text.strip()
    assert "{" not in told.text or "{" in repr(event)


def test_a_strangers_words_are_printable_and_whole_in_every_string() -> None:
    evil = "\x1b]0;owned\x07\x1b[31mred\ud800\u202e"
    log = Log().verified(path=f"/home/me/{evil}.gguf")
    log.add(Held(Stage.TEARDOWN, error=evil, reason=evil))
    text = dump(_report(log)).decode()
    said = json.loads(text)
    assert "owned" not in text
    for sign in ("\x1b", "\x07", "\u202e"):
        assert sign not in json.dumps(said, ensure_ascii=False)
    json.dumps(said, ensure_ascii=False).encode("utf-8")


def test_the_usual_files_are_written_and_replace_older_ones(tmp_path: Path) -> None:
    report = _report(Log().closed())
    directory = tmp_path / "job"
    write(_report(Log().rented()), directory)
    text, data, page = write(report, directory)
    assert (text.name, page.name) == ("GOLD_STANDARD.md", "GOLD_STANDARD.html")
    assert "CLOSED" in text.read_text(encoding="utf-8")
    assert json.loads(data.read_bytes())["standing"] == report.standing
    assert "CLOSED" in page.read_text(encoding="utf-8")
    assert {path.name for path in directory.iterdir()} == {text.name, data.name, page.name}


def test_the_forms_that_are_asked_for_are_written_once(tmp_path: Path) -> None:
    written = write(_report(Log().closed()), tmp_path, [Form.JUNIT, Form.MD, Form.JUNIT])
    assert [path.name for path in written] == ["GOLD_STANDARD.junit.xml", "GOLD_STANDARD.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)


def test_a_place_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write the report"):
        write(_report(Log()), tmp_path / "file")


def test_a_job_of_another_machine_is_told_as_of_its_last_event() -> None:
    """No clock of this machine makes its instance dearer, and no command of this machine ends it."""
    log = Log().trained()
    then = build(log.history, now=log.at, charges=None)
    told = build(log.history, now=log.at + 5 * 3600, charges=None, elsewhere=True)
    assert told.headline == f"Recorded on another machine, 5 h 00 min ago by its last event. {then.headline}"
    assert told.money == then.money
    assert told.stages == then.stages
    assert told.next_step == "pytest --pyargs harness.checks --stage=all --job=night --artifact PATH"
    for one in (then, told):
        assert [stage.judged_at for stage in one.stages if stage.verdict] == [*log.history.judged_at.values()]
