"""Event logs that version 0.1.0 wrote, and one with the kinds that came since: each tells the same history for good."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from harness.core.ids import InstanceId, JobName, Sha256
from harness.core.lifecycle import Stage
from harness.ledger import billing, ownership
from harness.ledger.chain import Record, head_of, problems
from harness.ledger.codec import decode, encode
from harness.ledger.events import Evaluated, Held
from harness.ledger.history import History, fold
from tests.support.job_histories import KINDS

LOGS = sorted((Path(__file__).parent / "data").glob("event-log-*.jsonl"))
LINES = [json.loads(line) for log in LOGS for line in log.read_text(encoding="utf-8").splitlines()]
JOBS = {
    JobName(job): tuple(Record(**line) for line in lines)
    for job, lines in itertools.groupby(LINES, key=lambda line: str(line["job"]))
}
HEADS = {
    "replaced": "1fe4988d96764e666b92051b6d316dec4ab3582e0d040a5a6680b82bbef75921",
    "adopted-4711": "c0f95281000f99854aa9c26c060f6d78c7c2d8e358dd8fb7b4deccfdc81222dd",
    "abandoned": "78952bbd37a42af34241b46056fc7bfc26eec1ddffa142311f6b3e04608625bf",
    "intended": "57deee3451509ff234f54348b1406838a1892f72af5b65ae859c1044d9d84c96",
    "ahead": "33f5e7f7b2dfbe609bd201ccf6103f372a921c0d3fb6ac3832befc13d1b50928",
    "near": "bd45db3d5707b466866c163f5a4efb8c98cdea4c32c540966fc2b0b157a333b3",
    "unheard": "5739b2d242d6a354a79d62e4e568a02ee50f129658c561c14bbf46b8feed8898",
    "evaluated": "8cadc85db25c4468169cf57368c4745001aef64d101979a15f23817ed6792e81",
}


def _history(job: str) -> History:
    return fold(JOBS[JobName(job)])


def test_every_kind_occurs_in_them() -> None:
    assert {line["kind"] for line in LINES} == {kind.kind for kind in KINDS}


@pytest.mark.parametrize("job", HEADS)
def test_the_chain_is_whole(job: str) -> None:
    records = JOBS[JobName(job)]
    assert records[-1].digest == HEADS[job]
    assert problems(records, head_of(records)) == ()


@pytest.mark.parametrize("job", HEADS)
def test_every_event_is_stored_again_as_it_was(job: str) -> None:
    for record in JOBS[JobName(job)]:
        event = decode(record)
        assert event is not None
        assert encode(event) == (record.kind, record.data)


def test_a_job_whose_instance_was_replaced() -> None:
    history = _history("replaced")
    assert history.closed
    assert (history.stage, history.launches, history.trained_at) == (None, 2, 1_800_000_768.0)
    assert history.rental is not None
    assert (history.rental.instance_id, history.rental.offer["id"], history.rental.owner) == (InstanceId(4712), 503, 7)
    assert len(history.labels) == 3
    assert history.lost is not None
    assert (history.lost.instance_id, history.lost.machine_id) == (InstanceId(4711), 12)
    assert history.lost.how == "the test agrees"
    assert history.resumes is not None
    assert history.resumes.steps == {"sft": 100}
    assert history.artifact is not None
    assert history.fetched == history.verified
    assert history.verified is not None
    assert (history.verified.size, history.verified.sha256) == (history.artifact.size, history.artifact.sha256)
    assert history.guarded is not None
    assert (history.guarded.running, history.guarded.remote) == ((), "unchanged")
    assert history.destroyed is not None
    assert history.destroyed.billing is not None
    assert [(one.start, one.end) for one in billing.paid_spans(history.records, 1.9e9)] == [
        (1_800_000_000.0, 1_800_000_720.0),
        (1_800_000_720.0, 1_800_000_800.0),
    ]
    assert billing.spent(history, 1.9e9) == pytest.approx(15.9 * 800 / 3600)
    assert billing.download_rate(history) == 4097.0


def test_a_job_that_took_its_instance_over() -> None:
    history = _history("adopted-4711")
    assert history.closed
    assert history.rental is not None
    assert (history.rental.label, history.rental.usd_per_hour, history.rental.owner) == ("", 15.9, 7)
    assert set(history.gates) == {Stage.POSTTRAIN, Stage.POSTDOWNLOAD, Stage.TEARDOWN}
    assert history.release_path == "/home/me/home/jobs/adopted-4711/release-16.json"
    assert (history.confirmed, history.destroy_reply) == ("the test agrees", "accepted")
    known = ownership.known([history], history.job.provider)
    assert known.volumes == {7: "adopted-4711"}
    assert [(claim.gone, claim.usd) for claim in known.instances.values()] == [(True, 1.0)]


def test_a_job_that_was_stopped_and_abandoned() -> None:
    records = JOBS[JobName("abandoned")]
    before = fold(records[: next(at for at, record in enumerate(records) if record.kind == "loss_accepted")])
    assert before.held == Held(Stage.TRAINING, "GateHeld", "stage training is held: loss_is_sane (assert 42 == 43)")
    assert before.job.limits.budget_usd == 9.0
    assert (before.launches, before.instance_stopped, before.destroy_intended) == (2, False, False)
    history = _history("abandoned")
    assert (history.rental, history.gates, history.stage) == (None, {}, Stage.PREFLIGHT)
    assert billing.spent(history, 1.9e9) == pytest.approx(15.9 * (465 + 242) / 3600)


def test_a_job_that_was_cut_off_while_it_rented_again() -> None:
    history = _history("intended")
    assert history.intended is not None
    assert (history.rental, history.intended.owner, history.intended_at) == (None, 7, 1_800_000_120.0)
    known = ownership.known([history], history.job.provider)
    assert known.begun == {history.intended.label: "intended"}
    assert [claim.gone for claim in known.instances.values()] == [True]


def test_a_job_whose_model_was_evaluated() -> None:
    history = _history("evaluated")
    assert history.evaluation_at == 1_800_000_020.0
    assert history.evaluated == Evaluated(None, Sha256("ef" * 32))


def test_a_job_whose_strategy_was_not_proven() -> None:
    settled = _history("proven").strategy
    assert settled is not None
    assert (settled.asked, settled.used, settled.of) == ("ddp", "seeds", "ef" * 32)
    assert settled.why == "losses_differ: 0.2 apart at step 3"


def test_a_job_whose_rental_was_agreed_to() -> None:
    *until_then, refused = JOBS[JobName("agreed")]
    agreed = fold(until_then).agreed
    assert agreed is not None
    assert (agreed.how, agreed.usd, agreed.budget_usd) == ("typed at the terminal", 17.44, 20.0)
    assert [(one["id"], one["usd_per_hour"]) for one in agreed.offers] == [(501, 15.9)]
    assert refused.kind == "plan_refused"
    assert _history("agreed").agreed is None


def test_a_job_whose_box_had_stopped_itself() -> None:
    history = _history("unheard")
    assert history.switch is not None
    assert (history.switch.key_id, history.switch.after_s) == (9, 900.0)
    spans = [(one.start, one.end) for one in billing.paid_spans(history.records, 1_800_040_000.0)]
    assert spans == [(1_800_000_070.0, 1_800_005_000.0), (1_800_030_000.0, 1_800_040_000.0)]
