"""The plan's arithmetic: the first user's numbers come out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.core.lifecycle import Stage
from harness.job import estimate
from harness.job.load import load_job
from harness.job.model import Job
from harness.log.grammar import DPO, SFT
from harness.plugin.looking import Evidence
from tests.support.facts import check_functions

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    path = tmp_path / "job.toml"
    path.write_text('name = "real"\nprofile = "forex-r1-v3"\n[package]\nsource = "."\n')
    return load_job(path)


def test_the_timeline_of_the_operating_rules(job: Job) -> None:
    """SFT about 25 minutes, DPO 8, GGUF 5, about 40 altogether; about 11 USD at 16 USD an hour."""
    time = estimate.timeline(job)
    assert time.steps["sft"] / 60 == pytest.approx(25, abs=1)
    assert time.steps["dpo"] / 60 == pytest.approx(8)
    assert time.export / 60 == pytest.approx(5)
    assert time.training / 60 == pytest.approx(40, abs=0.5)
    assert estimate.cost(job).training == pytest.approx(11, abs=0.5)


def test_the_whole_rental_is_inside_the_budget(job: Job) -> None:
    cost = estimate.cost(job)
    assert cost.hours == pytest.approx(estimate.timeline(job).total / 3600 * 16)
    assert cost.traffic == pytest.approx((15.231 + 8.093 + 5 * 1.938) * 0.02, abs=1e-3)
    assert cost.total == pytest.approx(cost.hours + cost.traffic)
    assert cost.total < job.limits.budget_usd


def test_the_sizes_of_the_real_model(job: Job) -> None:
    """DeepSeek-R1-Distill-Qwen-7B: 7,615,616,512 weights; Q8_0 has 8,092,571,648 bytes of tensors."""
    assert estimate.base_bytes(job) == 2 * 7_615_616_512
    assert estimate.artifact_bytes(job) == 8_092_571_648
    assert estimate.checkpoint_bytes(job) == 161_480_704 * 12


def test_the_mirror_costs_less_than_a_minute_of_training(job: Job) -> None:
    """What it guards costs 10 USD; the weights alone are a third of it."""
    usd = estimate.checkpoints_due(job) * estimate.mirrored_bytes(job) / 1e9 * job.machine.max_usd_per_gb
    assert usd < job.machine.max_usd_per_hour / 60
    assert estimate.mirror_bytes(job) == 5 * estimate.checkpoint_bytes(job)
    alone = job.model_copy(update={"training": job.training.model_copy(update={"mirror": "adapter"})})
    assert estimate.mirrored_bytes(alone) == estimate.checkpoint_bytes(job) // 3
    assert estimate.cost(alone).traffic < estimate.cost(job).traffic


def test_what_is_done_is_not_paid_again(job: Job) -> None:
    saved = estimate.cost(job).hours - estimate.cost(job, {"sft": 300}).hours
    assert saved == pytest.approx(300 * 4.4 / 3600 * 16)


def test_the_disk_of_the_real_job(job: Job) -> None:
    disk = estimate.disk(job)
    assert estimate.checkpoints_due(job) == 4 + 1
    assert disk.checkpoints == 5 * estimate.checkpoint_bytes(job)
    assert disk.needed == disk.reserved + disk.base + disk.merged + disk.gguf + disk.checkpoints
    assert disk.needed < 0.9 * disk.size


def test_checkpoints_beyond_the_limit_are_not_kept(job: Job) -> None:
    training = job.training.model_copy(update={"checkpoint_every": 1, "checkpoints_kept": 2})
    many = job.model_copy(update={"training": training})
    assert estimate.checkpoints_due(many) == 410
    assert estimate.disk(many).checkpoints == 4 * estimate.checkpoint_bytes(many)


def test_the_first_checkpoint(job: Job) -> None:
    assert estimate.first_checkpoint_s(job) == 600 + 180 + 100 * 4.4
    short = job.model_copy(update={"training": job.training.model_copy(update={"steps": {SFT: 50, DPO: 80}})})
    assert estimate.first_checkpoint_s(short) == 600 + 180 + 50 * 4.4


def test_a_model_that_cannot_be_predicted_is_bad_input(job: Job) -> None:
    odd = job.model_copy(update={"model": job.model.model_copy(update={"num_attention_heads": 27})})
    with pytest.raises(BadInput, match="not a multiple"):
        estimate.cost(odd)


UNKNOWN = "MambaForCausalLM"


def _of(job: Job, architecture: str, *, predict: bool = False, **artifact: object) -> Job:
    model = job.model.model_copy(update={"architecture": architecture})
    told = job.artifact.model_copy(update={"predict": predict, **artifact})
    return job.model_copy(update={"model": model, "artifact": told})


def test_an_architecture_that_is_not_known_needs_the_operators_word(job: Job) -> None:
    for reckon in (estimate.cost, estimate.disk, estimate.in_words, estimate.artifact_bytes):
        with pytest.raises(BadInput, match="MambaForCausalLM"):
            reckon(_of(job, UNKNOWN, predict=True))


def test_with_the_operators_word_it_counts_as_a_dense_one(job: Job) -> None:
    unknown, dense = _of(job, UNKNOWN), _of(job, "LlamaForCausalLM")
    assert estimate.base_bytes(unknown) == estimate.base_bytes(dense)
    assert estimate.artifact_bytes(unknown) == estimate.artifact_bytes(dense)
    assert estimate.disk(unknown) == estimate.disk(dense)
    assert estimate.cost(unknown) == estimate.cost(dense)
    assert estimate.in_words(unknown) == (
        estimate.in_words(dense) + "; sizes reckoned as a dense model's: MambaForCausalLM is not known here"
    )


def test_it_is_no_smaller_than_its_floor(job: Job) -> None:
    """A mixture of experts of these sizes is several times as large, and the operator's floor says so."""
    large = _of(job, UNKNOWN, floors={"Q8_0": 45_000_000_000})
    dense = _of(job, "LlamaForCausalLM")
    assert estimate.artifact_bytes(large) == 45_000_000_001
    grown = 45e9 / estimate.artifact_bytes(dense)
    assert estimate.base_bytes(large) == pytest.approx(grown * estimate.base_bytes(dense), rel=1e-6)
    alone = _of(job, UNKNOWN, kind="adapter", floor=10**9)
    assert estimate.base_bytes(alone) == estimate.base_bytes(dense), "an adapter's floor says nothing of its base"
    assert estimate.artifact_bytes(alone) == 10**9 + 1


def test_heads_of_no_even_width_are_an_error_only_where_the_model_is_known(job: Job) -> None:
    odd = job.model_copy(update={"model": job.model.model_copy(update={"num_attention_heads": 27})})
    assert estimate.base_bytes(_of(odd, UNKNOWN)) > 0
    with pytest.raises(BadInput, match="not a multiple"):
        estimate.base_bytes(_of(odd, "LlamaForCausalLM"))


def test_what_is_known_is_exact_whatever_the_operator_says(job: Job) -> None:
    """``predict = false`` may be for the adapter's kind alone."""
    for kind in ("gguf", "merged", "adapter"):
        told, untold = (_of(job, "Qwen2ForCausalLM", predict=one, kind=kind, floor=10**12) for one in (True, False))
        assert estimate.artifact_bytes(told) == estimate.artifact_bytes(untold)
        assert estimate.base_bytes(told) == estimate.base_bytes(untold)


def test_preflight_passes_the_sizes_of_a_model_that_is_not_known(job: Job) -> None:
    checks, evidence = dict(check_functions(Stage.PREFLIGHT)), Evidence()
    unknown = _of(job, UNKNOWN, floors={"Q8_0": 45_000_000_000})
    with pytest.raises(AssertionError, match="are needed"):
        checks["disk_plan_fits"](unknown, evidence)  # 150 GB hold no base of 85, its merged copy and 45 more
    checks["disk_plan_fits"](_of(job, UNKNOWN), evidence)


def test_training_alone_and_the_whole_rental_stand_side_by_side(job: Job) -> None:
    told = (
        "training alone 40 min, $10.72; whole rental with setup, download and traffic 65 min, $18.05; at most $16.00/h"
    )
    assert estimate.in_words(job) == told


@pytest.mark.parametrize(
    "name", ["training_pkg/VASTAI_MAX_SPEED_AGENT.md", "training_pkg/README.md", "examples/forex-r1-v3.toml"]
)
def test_the_documents_name_both_as_they_are_reckoned(job: Job, name: str) -> None:
    text = " ".join((ROOT / name).read_text(encoding="utf-8").replace("\n# ", " ").split())
    time, cost = estimate.timeline(job), estimate.cost(job)
    alone = f"{time.training / 60:.0f} minutes and ${cost.training:.0f}"
    whole = f"{time.total / 60:.0f} minutes and ${cost.total:.0f}"
    assert f"bout {alone} for the training alone, {whole} for the whole rental" in text


@pytest.mark.parametrize(
    ("price", "told"),
    [
        (15.92, "a retrain would cost about $17.30 (65 min at $15.92/h); five more minutes to look again cost $1.33"),
        (16.0, "a retrain would cost about $17.39 (65 min at $16.00/h); five more minutes to look again cost $1.33"),
        (2.0, "a retrain would cost about $2.17 (65 min at $2.00/h); five more minutes to look again cost $0.17"),
        (0.0, "a retrain would cost about $0.00 (65 min at $0.00/h); five more minutes to look again cost $0.00"),
        (None, "a retrain would cost about $17.39 (65 min at $16.00/h); five more minutes to look again cost $1.33"),
    ],
)
def test_what_is_at_stake_is_price_times_time(job: Job, price: float | None, told: str) -> None:
    assert estimate.stakes(job, price) == told


def test_an_evaluation_is_paid_for_by_those_who_ask_for_it(job: Job) -> None:
    package = job.package.model_copy(update={"evaluate": ("python3", "x.py")})
    asks = job.model_copy(update={"package": package})
    assert estimate.timeline(asks).total - estimate.timeline(job).total == job.limits.evaluate_s
    assert estimate.cost(asks).total > estimate.cost(job).total
    assert estimate.cost(asks).training == estimate.cost(job).training


def test_preflight_shows_both(job: Job) -> None:
    evidence = Evidence()
    dict(check_functions(Stage.PREFLIGHT))["cost_within_budget"](job, evidence)
    assert ("estimate", estimate.in_words(job)) in [(sight.name, sight.value) for sight in evidence.sights]
