"""Facts of a sound run of the first user's job, to be broken field by field, and a judge of the checks over them.

Every stage's facts open its gate as they are here. ``judge`` runs the stage's own checks
on facts that went through their JSON, by the plugin's own rules, in this process: a case
takes milliseconds, so that each check can be broken in many ways.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import pytest

from harness.artifacts.adapter import AdapterFindings
from harness.artifacts.digest import Hashed
from harness.artifacts.parts import Artifact
from harness.core.answers import (
    BoxCheckpoint,
    Disk,
    Entry,
    GgufHeader,
    GgufOnBox,
    Gpu,
    Gpus,
    JsonFile,
    Match,
    Matches,
    Process,
    Processes,
    Ran,
    SessionState,
    Terminals,
)
from harness.core.finding import Finding
from harness.core.ids import InstanceId, OfferId, Sha256
from harness.core.lifecycle import Stage
from harness.core.observed import Observed, seen
from harness.core.ports import Account, Instance, InstanceStatus, Offer
from harness.core.verdict import Verdict
from harness.facts import adapter
from harness.facts import typed as typed_facts
from harness.facts.finetune import Carried, Comparison
from harness.facts.install import InstallFacts, Libraries, Requirements
from harness.facts.launch import LaunchFacts
from harness.facts.mirror import Mirrored
from harness.facts.postdownload import Companions, LocalArtifact, PostdownloadFacts
from harness.facts.posttrain import PosttrainFacts
from harness.facts.preflight import Context, DeviceMaps, PreflightFacts, Smoke
from harness.facts.preflight_smoke import Resolved
from harness.facts.provision import PinFacts, ProvisionFacts
from harness.facts.runtime import Generation
from harness.facts.teardown import TeardownFacts
from harness.facts.training import Terms, TrainingFacts
from harness.facts.upload import Difference, UploadFacts
from harness.gates import plan
from harness.gates.facts_file import FactsFile
from harness.job.load import load_job
from harness.job.model import Job
from harness.log import summary
from harness.log.proof import ProofLine
from harness.plugin.looking import Evidence
from harness.plugin.verdicts import _judge
from harness.providers.vast.offers import gpu_names
from harness.release.absence import AbsenceLook, AbsenceProof, BillingLook, BillingProof
from harness.static.writers import Writers

NOW: Final = 1_800_000_000.0
SHA: Final = Sha256("ab" * 32)
OTHER_SHA: Final = Sha256("cd" * 32)
BOX: Final = "/workspace/vastai_llm_training"
MODEL: Final = f"{BOX}/models/output/final/forex-r1-v3.Q8_0.gguf"
DATA_BYTES: Final = 8_092_571_648
"""Tensor data of a 7B Qwen2 as Q8_0: what its shape gives."""

FILE_BYTES: Final = DATA_BYTES + 5_953_344
INSTANCE: Final = 7001

RUNNING: Final = SessionState(started=True, alive=True, pid=4242, exit_status=None)
ENDED: Final = SessionState(started=True, alive=False, pid=4242, exit_status=0)
CRASHED: Final = SessionState(started=True, alive=False, pid=4242, exit_status=1)
KILLED: Final = SessionState(started=True, alive=False, pid=4242, exit_status=None)

PROOF: Final = ProofLine("V2 FOREX INTEGRATION: {sft} SFT + {dpo} DPO samples from YOUR data")
V2: Final = "V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data"
ROWS: Final = {"features": 10_200, "scenarios": 5_100, "pairs": 2_550}
ROWS_HERE: Final = dict.fromkeys(ROWS, SHA)
DATA: Final = tuple(f"DATA {kind} rows={count} built=0 sha256={SHA}" for kind, count in ROWS.items())
PLAN: Final = (
    "PLAN sft_steps=330 dpo_steps=80 batch_size=32 checkpoint_every=100 lora_r=64 lora_alpha=128"
    " dtype=bfloat16 world_size=1 device_map=auto devices=cuda:0,cuda:1,cuda:2"
)
EPOCHS: Final = (
    "[sft] EPOCHS 2.76078 rows=15300 rows_a_step=128 accumulation=4 seen=42240 cap=330 all_rows_need=120",
    "[dpo] EPOCHS 1.00392 rows=2550 rows_a_step=32 accumulation=1 seen=2560 cap=0 all_rows_need=80",
)


def sound_job(**tables: Mapping[str, Any]) -> Job:
    """The first user's job, with fields of its tables replaced; its second copy is asked for."""
    return _sound_job(tables) if tables else _SOUND


def _sound_job(tables: Mapping[str, Mapping[str, Any]]) -> Job:
    body = _FIRST.model_dump()
    body["artifact"]["second_copy"] = body["artifact"]["second_copy"] or Path("/backup")
    body["package"]["readiness"] = body["package"]["readiness"] or ["python3", "ready.py"]
    body["gates"]["generate"] = True
    body["package"]["prove"] = ["python3", "-m", "forex.proving"]
    for table, fields in tables.items():
        body[table] |= fields
    return Job.model_validate(body)


_FIRST: Final = load_job(Path(__file__).parents[2] / "examples" / "forex-r1-v3.toml")
_SOUND: Final = _sound_job({})


def step_lines(
    trainer: str, first: int, last: int, *, loss: float = 0.8, pace: float = 4.4, every: int = 1
) -> list[str]:
    """Logged steps of one trainer, their losses not quite the same, with the checkpoints that fall due among them."""
    total = {"sft": 330, "dpo": 80}[trainer]
    lines = []
    for step in range(first, last + 1):
        if step % every == 0:
            lines.append(
                f"[{trainer}] step {step}/{total} ({step * 100 // total}%) loss={_moved(loss, step - first)} lr=0.0001"
                f" s/step={pace}"
            )
        if step % 100 == 0 or step == total:
            lines.append(f"[{trainer}] Saved checkpoint models/output/{trainer}/checkpoint-{step}")
    return lines


def _moved(loss: float, steps: int) -> float:
    """A loss as it moves from batch to batch, by some millionths; one that is no number, or 0, does not."""
    return round(loss * (1 - steps % 7 * 1e-6), 9)


def log(*lines: str) -> summary.LogSummary:
    """A log's lines, read by the harness's own parser."""
    return summary.read(("\n".join(lines) + "\n").encode(), PROOF)


def whole_log() -> list[str]:
    """Every line of a run that went well."""
    return [
        V2,
        *DATA,
        PLAN,
        *EPOCHS,
        *step_lines("sft", 1, 330),
        "[sft] COMPLETE 330/330 steps",
        "[dpo] first loss=0.693147",
        *step_lines("dpo", 1, 80, loss=0.4, pace=6.0),
        "[dpo] COMPLETE 80/80 steps",
        f"[export] GGUF models/output/final/forex-r1-v3.Q8_0.gguf bytes={FILE_BYTES} sha256={SHA}",
        "TRAINING COMPLETE",
    ]


def checkpoint(trainer: str, step: int, **changes: Any) -> BoxCheckpoint:
    """A complete checkpoint."""
    path = f"{BOX}/models/output/{trainer}/checkpoint-{step}"
    files = {"adapter_model.safetensors": 1000, "optimizer.pt": 2000}
    return replace(BoxCheckpoint(path, step, NOW, files, f"seal-{step}", (), (), ()), **changes)


def eight_h100(**changes: Any) -> Gpus:
    """What nvidia-smi shows on the rented machine."""
    shown = Gpu(0, "NVIDIA H100 80GB HBM3", "570.86.15", 81_559.0, 60_000.0, 87.0, "9.0")
    return Gpus(installed=True, gpus=tuple(replace(shown, index=index, **changes) for index in range(8)))


def offer(**changes: Any) -> Offer:
    """The offer that was agreed to."""
    agreed = Offer(
        id=OfferId(501),
        machine_id=12,
        gpu_name="H100 SXM",
        num_gpus=8,
        gpu_ram_mb=81_559,
        usd_per_hour=15.9,
        reliability=0.995,
        cuda_max=12.8,
        driver_version="570.86.15",
        disk_gb=2000,
        duration_s=2_000_000,
        direct_ports=42,
        inet_down_mbps=6000,
        inet_up_mbps=4000,
    )
    return replace(agreed, **changes)


def instance(**changes: Any) -> Instance:
    """The instance as the provider tells it."""
    running = Instance(
        id=InstanceId(INSTANCE),
        label="gsh-forex-r1-v3-0a1b2c3d",
        status=InstanceStatus.RUNNING,
        intended_status="running",
        status_message="success",
        machine_id=12,
        gpu_name="H100 SXM",
        num_gpus=8,
        usd_per_hour=15.9,
        disk_gb=150,
        endpoints=(),
        started_at=NOW - 600,
        ends_at=NOW + 1_000_000,
        is_bid=False,
    )
    return replace(running, **changes)


def preflight() -> PreflightFacts:
    """The package as it was staged, this machine, and the account."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8Qp0o0l1h2nq7o3ZrZc5sPp8y4kS7vYQk1lq0Yh3uT gsh"
    rows_a_step = {"sft": 128, "dpo": 32}
    return PreflightFacts(
        missing_files=seen(()),
        compile_errors=seen(()),
        counts=seen(ROWS),
        unreadable_rows=seen(()),
        unsound_rows=seen(()),
        suspect_rows=seen(()),
        context=seen(Context(17_850, 0, "counted")),
        script_batch_size=seen(32),
        device_maps=seen(DeviceMaps({"train.py:9": "auto"}, ())),
        launchers=seen(()),
        option_pairs=seen(()),
        save_steps=seen({"train.py:12": 100}),
        smoke=seen(Smoke(0, "", False, "tiny.gguf", 1000, None, None, Resolved(32, "auto", 1, 1, "m", rows_a_step))),
        runtime=seen("xllamacpp 2026.11"),
        local_free_bytes=seen(1_000_000_000_000),
        account=seen(Account(7, 100.0)),
        public_key=seen(key),
        orphans=seen(()),
        destination_files=seen(()),
        built_rows=seen({}),
        writers=seen(Writers((), ())),
    )


def provision() -> ProvisionFacts:
    """The machine that was rented."""
    return ProvisionFacts(
        gpu_names=seen(gpu_names("H100")),
        offer=seen(offer()),
        instance=seen(instance()),
        labelled=seen((InstanceId(INSTANCE),)),
        pin=seen(PinFacts(("ssh-ed25519 AAAA",), "read in the container log")),
        fresh_login=seen("root"),
        gpus=seen(eight_h100()),
        disk=seen(Disk(total=150_000_000_000, used=5_000_000_000, free=145_000_000_000)),
        download_bytes_per_s=seen(50e6),
        now=NOW,
    )


def upload() -> UploadFacts:
    """The package on the box."""
    return UploadFacts(
        difference=seen(Difference(42, (), (), ())),
        script_batch_size=seen(32),
        script_device_maps=seen(("auto",)),
        counts=seen({"features": 10200, "scenarios": 5100, "pairs": 2550}),
    )


def install() -> InstallFacts:
    """The installed box."""
    names = ("torch", "transformers", "peft", "trl", "datasets")
    return InstallFacts(
        requirements=seen(Requirements(9, ())),
        imports=seen(Ran(0, out='IMPORTS {"versions": {}}\n')),
        libraries=seen(Libraries(dict.fromkeys(names, "1.0"), cuda=True, devices=("NVIDIA H100 80GB HBM3",) * 8)),
        readiness=seen(Ran(0, out="READY base_model 7B\nREADY gguf_export Q8_0\n")),
        multiplexer=seen(Terminals(installed=True, sessions=())),
    )


def python(*argv: str, pid: int = 4242, **changes: Any) -> Process:
    """A process of the training."""
    return replace(Process(pid, 1, "S", ("python3", *argv), BOX), **changes)


def launch() -> LaunchFacts:
    """A training in its first minutes."""
    data = {kind: {"rows": count, "sha256": SHA} for kind, count in ROWS.items()}
    run = {"contract": 1, "batch_size": 32, "steps": {"sft": 330, "dpo": 80}, "data": data}
    return LaunchFacts(
        session=seen(RUNNING),
        log=seen(log(V2, *DATA, PLAN, *EPOCHS, *step_lines("sft", 1, 5))),
        log_age_s=seen(3.0),
        proof=seen(Matches(exists=True, bytes=900, count=1, matches=(Match(1, V2),))),
        processes=seen(Processes((python("train_deepseek_forex.py", "--stage", "all"),))),
        run=seen(JsonFile(exists=True, bytes=300, json=run)),
        since_launch_s=240.0,
        rows_here=seen(ROWS_HERE),
    )


def training() -> TrainingFacts:
    """A training at SFT step 250, two checkpoints due."""
    lines = [V2, PLAN, *EPOCHS, *step_lines("sft", 1, 250)]
    return TrainingFacts(
        session=seen(RUNNING),
        log=seen(log(*lines)),
        log_age_s=seen(3.0),
        last_lines=seen(tuple(lines[-20:])),
        checkpoints={"sft": seen((checkpoint("sft", 100), checkpoint("sft", 200))), "dpo": seen(())},
        mirror=seen((Mirrored("sft", 100, 1000), Mirrored("sft", 200, 1000))),
        gpus=seen(eight_h100()),
        disk=seen(Disk(total=150_000_000_000, used=60_000_000_000, free=90_000_000_000)),
        since_launch_s=1300.0,
        spent_usd=8.0,
        terms=seen(Terms(NOW, 15.9, 15.9, NOW + 1_000_000)),
    )


def run_json(job: Job) -> dict[str, Any]:
    """What a training that goes as planned announces in run.json."""
    data, model, training = job.data, job.model, job.training
    rows = data.counts
    return {
        "contract": 1,
        "steps": dict(training.steps),
        "batch_size": training.batch_size,
        "rows_a_step": {trainer: training.rows_a_step(trainer) for trainer in job.trainers},
        "checkpoint_every": training.checkpoint_every,
        "dtype": model.dtype,
        "device_map": training.device_map,
        "world_size": 1,
        "lora": {"r": model.lora_r, "alpha": model.lora_alpha},
        "model": {"name": model.base, "config": model.model_dump(mode="json")},
        "data": {kind: {"path": f"data/{kind}.jsonl", "rows": count, "sha256": SHA} for kind, count in rows.items()},
    }


def posttrain() -> PosttrainFacts:
    """What the run left on the box."""
    stated = {"path": "models/output/final/forex-r1-v3.Q8_0.gguf", "bytes": FILE_BYTES, "sha256": SHA, "kind": "gguf"}
    header = GgufHeader(FILE_BYTES, FILE_BYTES - DATA_BYTES, DATA_BYTES, {}, (("t", (32,), "Q8_0", 0, 34),))
    lines, steps = whole_log(), {"sft": 330, "dpo": 80}
    return PosttrainFacts(
        session=seen(ENDED),
        log=seen(log(*lines)),
        completion=seen(Matches(exists=True, bytes=9000, count=9, matches=(Match(9, lines[-2]), Match(10, lines[-1])))),
        finals=seen((Entry(MODEL, "file", FILE_BYTES, NOW),)),
        unfinished=seen(()),
        manifest=seen(JsonFile(exists=True, bytes=900, json={"contract": 1, "steps": steps, "files": [stated]})),
        run=seen(JsonFile(exists=True, bytes=900, json=run_json(sound_job()))),
        gguf=seen(GgufOnBox(exists=True, gguf=header)),
        recorded=seen(Artifact(MODEL, FILE_BYTES, SHA)),
        adapter=seen(AdapterFindings(161_480_704, 64, 392, ())),
        predicted_bytes=seen(DATA_BYTES),
        carried=seen(Comparison({"model.layers.0.self_attn.q_proj.weight": Carried(0.98, 0.006, 0.4)}, {}, "", 65536)),
        rows_here=seen(ROWS_HERE),
        at_work=seen(()),
    )


def finding(name: str, verdict: Verdict = Verdict.PASS) -> Finding:
    """What the verification of a model file says of one claim."""
    return Finding(name, f"the claim of {name}", verdict, "what it saw", "what it expected")


def postdownload() -> PostdownloadFacts:
    """What came home."""
    ids = ("well_formed", "tensors_as_predicted", "hyperparameters", "weights_present")
    findings = tuple(finding(one) for one in (*ids, "tokenizer_consistent", "tokenizer_as_trained"))
    return PostdownloadFacts(
        local=seen(LocalArtifact("/home/artifact/forex-r1-v3.Q8_0.gguf", exists=True, regular=True, partial=())),
        hashed=seen(Hashed(FILE_BYTES, SHA)),
        remote=seen(Artifact(MODEL, FILE_BYTES, SHA)),
        findings=seen(findings),
        generation=seen(Generation(loaded=True, tokens=16, text="goes up")),
        companions=seen(Companions(12, ())),
        second_copy=seen(Hashed(FILE_BYTES, SHA)),
    )


def teardown() -> TeardownFacts:
    """After the instance went."""
    looks = tuple(AbsenceLook(NOW + 30 * turn, 424242, 1, InstanceId(9)) for turn in range(3))
    bills = tuple(BillingLook(NOW + 60 * turn, 10.9, 3) for turn in range(2))
    return TeardownFacts(
        release_problems=seen(()),
        file_problems=seen(()),
        running=seen(()),
        confirmed=seen("typed at the terminal"),
        absence=seen(AbsenceProof(InstanceId(INSTANCE), looks)),
        billing=seen(BillingProof(InstanceId(INSTANCE), bills)),
        volumes=seen(()),
        orphans=seen(()),
    )


PASSING: Final[Mapping[Stage, Callable[[], Any]]] = {
    Stage.PROVISION: provision,
    Stage.UPLOAD: upload,
    Stage.INSTALL: install,
    Stage.LAUNCH: launch,
    Stage.TRAINING: training,
    Stage.POSTTRAIN: posttrain,
    Stage.POSTDOWNLOAD: postdownload,
    Stage.TEARDOWN: teardown,
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What one check said."""

    verdict: Verdict
    message: str
    saw: Mapping[str, str]
    wanted: Mapping[str, str]


def facts_file(stage: Stage, facts: Any = None, job: Job | None = None) -> FactsFile:
    """The facts as the harness writes them."""
    body = adapter(stage).dump_python(PASSING[stage]() if facts is None else facts, mode="json")
    return FactsFile(stage, job or sound_job(), NOW, 1.5, json.loads(json.dumps(body)))


def check_functions(stage: Stage) -> Iterator[tuple[str, Callable[..., object]]]:
    """Every check of a stage, by its id."""
    for module in pkgutil.iter_modules([str(plan.FOLDER / stage)]):
        for name, function in vars(import_module(f"harness.checks.{stage}.{module.name}")).items():
            if name.startswith("check_") and callable(function):
                yield name.removeprefix("check_"), function


def judge(stage: Stage, facts: Any = None, job: Job | None = None) -> dict[str, Judged]:
    """Every check of the stage that the job's plan has over these facts, by the plugin's rules."""
    return judge_file(facts_file(stage, facts, job))


def judge_file(file: FactsFile) -> dict[str, Judged]:
    """Every check of the file's stage and its job's plan over what it holds, by the plugin's rules."""
    stage = Stage(file.stage)
    told = {"job": file.job, stage.value: typed_facts(file)}
    idle = plan.left_out(stage, file.job)
    return {name: _one(function, told) for name, function in check_functions(stage) if name not in idle}


def _one(function: Callable[..., object], told: Mapping[str, Any]) -> Judged:
    evidence = Evidence()
    given = {**told, "evidence": evidence}
    arguments = {name: given[name] for name in inspect.signature(function).parameters}
    call: pytest.CallInfo[None] = pytest.CallInfo.from_call(lambda: cast("None", function(**arguments)), "call")
    report = SimpleNamespace(when="call", skipped=False, failed=call.excinfo is not None, longrepr="")
    return Judged(
        *_judge(cast("pytest.TestReport", report), call, evidence),
        *({sight.name: sight.value for sight in side} for side in (evidence.sights, evidence.expectations)),
    )


def assert_only(judged: Mapping[str, Judged], verdict: Verdict, expected: Mapping[str, str]) -> None:
    """Exactly these checks have the verdict, each saying these words; every other check passed."""
    shut = {name: said for name, said in judged.items() if said.verdict is not Verdict.PASS}
    assert {name: said.verdict for name, said in shut.items()} == dict.fromkeys(expected, verdict), shut
    for name, words in expected.items():
        assert words in shut[name].message, shut[name].message


F = TypeVar("F")


def changed(facts: F, changes: Mapping[str, Any]) -> F:
    """The facts with other values; what was observed stays an observation."""
    fields = {name: seen(one) if isinstance(getattr(facts, name), Observed) else one for name, one in changes.items()}
    body: Any = facts
    return cast("F", replace(body, **fields))
