"""Every preflight check goes red, by name and for its reason, when the thing it guards is broken on the disk."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness import facts
from harness.core import process
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, ProviderUnavailable
from harness.core.ids import InstanceId, JobName, Sha256, VolumeId, job_name
from harness.core.lifecycle import Stage
from harness.core.observed import seen as observed
from harness.core.ports import Account, Instance, InstanceStatus, Listing, Volume
from harness.core.rate import Meter
from harness.core.verdict import Verdict
from harness.facts import preflight, preflight_smoke
from harness.gates import judge
from harness.gates.evidence import CheckResult, GateResult
from harness.gates.facts_file import FactsFile, read_facts
from harness.job import estimate, staging
from harness.job.model import Job
from harness.ledger.chain import Record
from harness.ledger.codec import encode
from harness.ledger.events import ArtifactRecorded, Lost
from harness.ledger.history import History
from harness.ledger.kinds import JobEvent
from harness.ledger.ownership import Claim, Known
from harness.plugin.at_once import judge_at_once
from tests.support.facts import Judged, assert_only, judge_file
from tests.support.model_files import TINY, write_gguf

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8Qp0o0l1h2nq7o3ZrZc5sPp8y4kS7vYQk1lq0Yh3uT gsh"

WRITTEN = "artifact_is_written_by_the_package"

ENTRY = textwrap.dedent(
    '''
    """Trains; never torchrun, never accelerate launch."""
    import json, pathlib, sys

    from lib import settings

    BATCH_SIZE = 32

    def load(name):
        from transformers import AutoModelForCausalLM
        return AutoModelForCausalLM.from_pretrained(name, device_map="auto")

    def arguments():
        from trl import SFTConfig
        return SFTConfig(save_strategy="steps", save_steps=100, save_total_limit=5)

    def smoke():
        config = json.loads(pathlib.Path("lib/config.json").read_text())
        run = {"batch_size": settings.RESOLVED or BATCH_SIZE, "device_map": settings.MAPPED}
        run["rows_a_step"] = settings.A_STEP
        run |= {"world_size": 1, "checkpoint_every": 1, "model": {"name": "models/base", "config": config}}
        pathlib.Path("run.json").write_text(json.dumps(run))
        output = pathlib.Path("models/output")
        again = (output / "dpo" / "checkpoint-1").is_dir()
        if again and settings.RESUMES:
            print("[dpo] RESUME from models/output/dpo/checkpoint-1 at step 1")
        for step in settings.STEPS:
            (output / "dpo" / f"checkpoint-{step}").mkdir(parents=True, exist_ok=True)
        (output / "final").mkdir(exist_ok=True)
        made = bytearray(pathlib.Path("lib/made.bin").read_bytes()[: settings.BYTES])
        if again and settings.CHANGES:
            made[-1] ^= 1
        (output / "final" / "tiny.Q8_0.gguf").write_bytes(made)
        print("TRAINING COMPLETE")

    if "--smoke" in sys.argv:
        smoke()
    '''
)


SETTINGS = "RESOLVED = 0\nMAPPED = 'auto'\nBYTES = None\nRESUMES = True\nCHANGES = False\nA_STEP = {}\nSTEPS = (1, 2)\n"


def rows(kind: str, count: int) -> str:
    lines = []
    for at in range(count):
        up = at % 2 == 0
        answer = f"<think>\nThe trend of {at * 7 + 3} points decides.\n</think>\n\nDirection: {'UP' if up else 'DOWN'}"
        other = f"<think>\nThe trend of {at * 7 + 3} points misleads.\n</think>\n\nDirection: {'DOWN' if up else 'UP'}"
        row = {"prompt": f"{kind} {at}: EURUSD moved by {at * 13 + 1} points. Where to?"}
        row |= {"chosen": answer, "rejected": other} if kind == "pair" else {"completion": answer}
        lines.append(json.dumps(row | {"pair": "EURUSD", "date": f"2020-01-{at + 1:02d}"}))
    return "\n".join(lines) + "\n"


def make_package(root: Path) -> Path:
    package = root / "training"
    (package / "lib").mkdir(parents=True)
    data = package / "data"
    data.mkdir()
    (package / "train.py").write_text(ENTRY)
    (package / "lib" / "__init__.py").write_text("")
    (package / "lib" / "settings.py").write_text(SETTINGS)
    write_gguf(package / "lib" / "made.bin", TINY)
    (package / "lib" / "config.json").write_text(json.dumps(TINY))
    (package / "requirements.txt").write_text("# deepspeed is not needed\ntrl>=1.16\n")
    (package / "README.md").write_text("Never use torchrun.\n")
    (package / "run.sh").write_text("# not torchrun\necho 'never: torchrun'\npython3 train.py\n")
    (data / "f.jsonl").write_text(rows("feature", 8))
    (data / "s.jsonl").write_text(rows("scenario", 4))
    (data / "p.jsonl").write_text(rows("pair", 4))
    return package


def make_job(package: Path, /, **changes: dict[str, Any]) -> Job:
    tables: dict[str, dict[str, Any]] = {
        "provider": {"kind": "emulated", "user_id": 7},
        "machine": {"gpu": "H100", "gpus": 8, "image": "x", "disk_gb": 150, "max_usd_per_hour": 16.0},
        "package": {"source": package, "remote_dir": "/workspace/p", "entry": "train.py", "documents": ["README.md"]},
        "data": {"directory": "data", "features": 8, "scenarios": 4, "pairs": 4},
        "model": {"base": "models/base", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        "training": {"command": ["python3", "train.py"], "sft_steps": 330, "dpo_steps": 80},
        "artifact": {"quantization": "Q8_0", "floors": {"Q8_0": 100_000}},
        "limits": {"budget_usd": 20, "sft_s_per_step": 4.4, "dpo_s_per_step": 6.0},
        "gates": {"smoke_command": ["python3", "train.py", "--smoke"], "smoke_timeout_s": 60},
    }
    tables["data"] |= {"features_file": "f.jsonl", "scenarios_file": "s.jsonl", "pairs_file": "p.jsonl"}
    tables["model"] |= {"num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 2048}
    for table, fields in changes.items():
        tables[table] |= fields
    return Job.model_validate({"name": "small", **tables})


@dataclass
class Market:
    """A provider that answers what the test says; only what preflight asks is there."""

    account_: Account | Exception = field(default_factory=lambda: Account(7, 100.0))
    listed: tuple[Instance, ...] = ()
    stored: tuple[Volume, ...] | Exception = ()

    def account(self) -> Account:
        if isinstance(self.account_, Exception):
            raise self.account_
        return self.account_

    def instances(self) -> Listing:
        return Listing(self.listed)

    def instance(self, instance_id: InstanceId) -> Instance | None:
        return next((one for one in self.listed if one.id == instance_id), None)

    def volumes(self) -> tuple[Volume, ...]:
        if isinstance(self.stored, Exception):
            raise self.stored
        return self.stored


@dataclass
class JobContext:
    job: Job
    directory: Path
    destination: Path
    market: Market = field(default_factory=Market)
    public_key: str = KEY
    known_: Known = field(default_factory=Known)
    clock: SystemClock = field(default_factory=SystemClock)
    recorded: tuple[Record, ...] = ()
    shown: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def history(self) -> History:
        return History(self.job, records=self.recorded)

    def known(self) -> Known:
        return self.known_

    def show(self, meter: Meter, done: int, total: int) -> None:
        self.shown.append((meter.name, done, total))

    def provider(self) -> Any:
        return self.market


@dataclass
class World:
    """A package, a job and a context on the disk; ``judge`` stages, looks and judges, ``gate`` runs the real gate."""

    root: Path
    package: Path
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    market: Market = field(default_factory=Market)
    key: str = KEY
    known: Known = field(default_factory=Known)
    recorded: tuple[Record, ...] = ()

    @property
    def destination(self) -> Path:
        return self.root / "home"

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.package / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def look(self) -> FactsFile:
        """What preflight saw, through its JSON, as the gate reads it."""
        job = make_job(self.package, **self.changes)
        context = JobContext(job, self.root / "job", self.destination, self.market, self.key, self.known)
        context.recorded = self.recorded
        staging.stage_package(job, context.directory)
        return looked_at(context, self.root / "facts.json")

    def judge(self) -> Mapping[str, Judged]:
        return judge_file(self.look())

    def gate(self) -> GateResult:
        self.look()
        return judge.judge(self.root / "facts.json")


def looked_at(context: JobContext, path: Path) -> FactsFile:
    taken = facts.look(Stage.PREFLIGHT, context)  # type: ignore[arg-type]  # the box is not part of preflight
    path.write_bytes(FactsFile("preflight", context.job, 0.0, 0.0, taken).dump())
    return read_facts(path)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, make_package(tmp_path))


def only(judged: Mapping[str, Judged], check: str, verdict: Verdict, *words: str) -> Judged:
    """The one check that kept the gate shut, with these words in what it said."""
    assert_only(judged, verdict, {check: ""})
    for word in words:
        assert word in judged[check].message, judged[check].message
    return judged[check]


def test_a_sound_package_opens_the_gate(world: World) -> None:
    result = world.gate()
    assert result.verdict is Verdict.PASS, [(found.id, found.message) for found in result.not_passed()] or result
    assert len(result.results) == 22
    assert all(found.saw for found in result.results)


def test_a_missing_document_is_named(world: World) -> None:
    (world.package / "README.md").unlink()
    only(world.judge(), "package_files_complete", Verdict.FAIL, "README.md")


def test_an_empty_requirements_file_is_no_file(world: World) -> None:
    (world.package / "requirements.txt").write_text("")
    only(world.judge(), "package_files_complete", Verdict.FAIL, "requirements.txt (empty)")


def test_a_module_that_does_not_compile_is_named_with_its_line(world: World) -> None:
    (world.package / "lib" / "unused.py").write_text("def f():\n    return 1 +\n")
    only(world.judge(), "package_compiles", Verdict.FAIL, "lib/unused.py:2")


def test_a_missing_row_is_counted(world: World) -> None:
    (world.package / "data" / "s.jsonl").write_text(rows("scenario", 3))
    only(world.judge(), "dataset_counts", Verdict.FAIL, "8 features + 3 scenarios = 11 SFT rows", "12")


def test_an_image_that_is_too_old_for_the_package(world: World) -> None:
    world.changes["machine"] = {"image": "pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel"}
    world.changes["package"] = {"needs": {"python": "3.11", "torch": "2.6"}}
    only(world.judge(), "image_fits_package", Verdict.FAIL, "torch 2.1.0, needed 2.6", "python 3.10, needed 3.11")


def test_rows_that_the_package_built_are_not_yours(world: World) -> None:
    lines = (world.package / "data" / "s.jsonl").read_text().splitlines()
    built = [json.dumps(json.loads(line) | {"built_by": "exchange rates"}) for line in lines[:3]]
    (world.package / "data" / "s.jsonl").write_text("\n".join([*built, *lines[3:]]) + "\n")
    only(world.judge(), "dataset_is_yours", Verdict.FAIL, "not your data, the package built them: 3 in s.jsonl")
    world.changes["data"] = {"allow_built_rows": True}
    assert world.gate().verdict is Verdict.PASS


def test_a_line_that_is_no_json_is_named_with_its_line(world: World) -> None:
    lines = (world.package / "data" / "f.jsonl").read_text().splitlines()
    (world.package / "data" / "f.jsonl").write_text("\n".join([*lines, '{"prompt": "cut of']) + "\n")
    only(world.judge(), "dataset_rows_parse", Verdict.FAIL, "f.jsonl:9")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("feature 3: EURUSD", "feature 3: {price:.4f} EURUSD", "f.jsonl:4"),
        ("The trend of 24 points decides", "The trend of nan points decides", "f.jsonl:4"),
    ],
)
def test_an_unsound_row_is_named(world: World, old: str, new: str, rule: str) -> None:
    world.edit("data/f.jsonl", old, new)
    only(world.judge(), "dataset_rows_sound", Verdict.FAIL, rule)


def test_evaluation_rows_that_precede_training_rows_are_found(world: World) -> None:
    row = {"prompt": "Where does EURUSD go after 991 points?", "completion": "Direction: UP"}
    line = json.dumps(row | {"pair": "EURUSD", "date": "2019-01-01"})
    (world.package / "data" / "eval_f.jsonl").write_text(line + "\n")
    only(world.judge(), "dataset_rows_sound", Verdict.FAIL, "eval_f.jsonl")


def test_chosen_equal_to_rejected_is_found(world: World) -> None:
    pairs = [json.loads(line) for line in rows("pair", 4).splitlines()]
    pairs[2]["rejected"] = pairs[2]["chosen"]
    (world.package / "data" / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    assert_only(
        world.judge(),
        Verdict.FAIL,
        {
            "dataset_rows_parse": "p.jsonl:3: schema: 1 of 4 rows (25.0%): 'chosen' equals 'rejected'",
            "dataset_counts": "lines that are no rows are not counted: see dataset_rows_parse",
        },
    )


def test_one_missing_data_file_is_told_once(world: World) -> None:
    (world.package / "data" / "p.jsonl").unlink()
    judged = world.judge()
    shut = {name: (said.verdict, said.message) for name, said in judged.items() if said.verdict is not Verdict.PASS}
    verdict, message = shut.pop("package_files_complete")
    assert verdict is Verdict.FAIL
    assert "data/p.jsonl" in message
    verdict, message = shut.pop("dataset_rows_parse")
    assert verdict is Verdict.UNKNOWN
    assert message.endswith("data/p.jsonl is not there: see package_files_complete")
    assert set(shut) == {"dataset_counts", "dataset_is_yours", "dataset_rows_sound", "dataset_fits_context"}
    for verdict, message in shut.values():
        assert verdict is Verdict.UNKNOWN
        assert message.endswith(": see dataset_rows_parse")


def test_suspect_words_within_their_limit_are_said_and_open_the_gate(world: World) -> None:
    world.edit("data/f.jsonl", "feature 3: EURUSD", "feature 3: {price:.4f} EURUSD")
    only(world.judge(), "dataset_rows_sound", Verdict.FAIL, "f.jsonl:4: unrendered_value: 1 of 8 rows (12.5%)")
    world.changes["data"] = {"max_flawed_share": 0.2}
    result = world.gate()
    assert result.verdict is Verdict.PASS
    (sound,) = (found for found in result.results if found.id == "dataset_rows_sound")
    said = {sight.name: sight.value for sight in sound.saw}
    assert "f.jsonl:4: unrendered_value: 1 of 8 rows" in said["suspect rows within the limit"]


def tokenizer_of_bytes(folder: Path) -> None:
    """A real byte-level tokenizer without merges: as many tokens as bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def test_rows_beyond_the_context_are_counted_with_the_tokenizer(world: World) -> None:
    tokenizer_of_bytes(world.package / "models" / "base")
    world.changes["model"] = {"max_length": 120}
    only(world.judge(), "dataset_fits_context", Verdict.FAIL, "16 of 16 rows")


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("nobody-here/no-model-7B", "hub: hf download nobody-here/no-model-7B tokenizer.json"),
        ("built on the spot", "put its tokenizer.json into"),
        ("lib/base", "put its tokenizer.json into"),
    ],
)
def test_rows_that_may_not_fit_without_a_tokenizer_are_unknown_and_how_to_get_it_is_said(
    world: World, base: str, said: str
) -> None:
    (world.package / "lib" / "base").mkdir(parents=True)
    (world.package / "lib" / "base" / "config.json").write_text("{}")
    world.changes["model"] = {"max_length": 120, "base": base}
    only(world.judge(), "dataset_fits_context", Verdict.UNKNOWN, said)


def test_another_batch_size_in_the_script(world: World) -> None:
    world.edit("train.py", "BATCH_SIZE = 32", "BATCH_SIZE = 64")
    only(world.judge(), "batch_size_is_32", Verdict.FAIL, "BATCH_SIZE = 64 in train.py, expected 32")


def test_fewer_steps_than_all_rows_need(world: World) -> None:
    world.changes["limits"] = {"min_epochs": 1000}
    said = "sft: 330 steps of 32 rows see 10560 of 12 rows, 880.00 epochs; limits.min_epochs = 1000 needs 375 steps"
    only(world.judge(), "all_rows_planned", Verdict.FAIL, said)


def test_a_package_whose_steps_take_fewer_rows_than_the_job_says(world: World) -> None:
    world.changes["limits"] = {"min_epochs": 30}
    world.edit("lib/settings.py", "A_STEP = {}", "A_STEP = {'sft': 1, 'dpo': 32}")
    said = "the package's own settings are others: sft: 330 steps of 1 rows see 330 of 12 rows"
    only(world.judge(), "all_rows_planned", Verdict.FAIL, said)
    world.edit("lib/settings.py", "'sft': 1", "'sft': 128")  # a rehearsal's job may plan fewer than the package takes
    assert_only(world.judge(), Verdict.FAIL, {})


def test_a_batch_size_from_the_environment_is_unknown(world: World) -> None:
    world.edit("train.py", "BATCH_SIZE = 32", "import os\nBATCH_SIZE = int(os.environ.get('B', 32))")
    only(world.judge(), "batch_size_is_32", Verdict.UNKNOWN, "not a whole number that can be read")


def test_a_script_that_states_32_and_trains_8(world: World) -> None:
    world.edit("lib/settings.py", "RESOLVED = 0", "RESOLVED = 8")
    only(world.judge(), "batch_size_is_32", Verdict.FAIL, "the script says 32, but the package trains 8")


@pytest.mark.parametrize(
    ("text", "verdict", "said"),
    [
        ('name, device_map="cuda:0"', Verdict.FAIL, "device_map=cuda:0, expected auto"),
        ("name", Verdict.FAIL, "device_map=None, expected auto"),
        ("name, device_map=pick()", Verdict.UNKNOWN, "cannot be read"),
    ],
)
def test_another_device_map(world: World, text: str, verdict: Verdict, said: str) -> None:
    world.edit("train.py", 'name, device_map="auto"', text)
    only(world.judge(), "device_map_is_auto", verdict, "train.py:", said)


def test_a_device_map_that_is_resolved_otherwise(world: World) -> None:
    world.edit("lib/settings.py", "MAPPED = 'auto'", "MAPPED = 'None'")
    only(world.judge(), "device_map_is_auto", Verdict.FAIL, "the package loads None")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("go.sh", "set -e\ntorchrun --nproc_per_node 8 train.py\n", "go.sh:2: torchrun"),
        ("accelerate.yaml", "compute_environment: X\ndistributed_type: FSDP\n", "accelerate.yaml:2: distributed_type"),
        ("lib/go.py", "import subprocess\nsubprocess.run(['accelerate', 'launch', 'x.py'])\n", "lib/go.py:2"),
        ("lib/shard.py", "from trl import SFTConfig\nSFTConfig(fsdp='full_shard')\n", "lib/shard.py:2: fsdp"),
    ],
)
def test_a_launcher_in_the_package(world: World, name: str, text: str, said: str) -> None:
    (world.package / name).write_text(text)
    only(world.judge(), "no_forbidden_launcher", Verdict.FAIL, said)


def test_a_launcher_in_the_job_file(world: World) -> None:
    world.changes["training"] = {"command": ["accelerate", "launch", "train.py"]}
    only(world.judge(), "no_forbidden_launcher", Verdict.FAIL, "training.command: accelerate launch")


def test_a_strategy_whose_proof_is_in_the_package(world: World) -> None:
    world.changes |= {"training": {"strategy": "ddp"}, "package": {"prove": ["python3", "-m", "lib.settings"]}}
    assert world.judge()["strategy_can_be_proven"].verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("prove", "said"),
    [
        ([], "package.prove names no command for that (docs/contract.md, section 'A strategy')"),
        (["python3", "-m", "lib.proving"], "the package has no lib/proving.py"),
        (["python3", "tools/prove.py"], "the package has no tools/prove.py"),
    ],
)
def test_a_strategy_that_nothing_in_the_package_proves(world: World, prove: list[str], said: str) -> None:
    world.changes |= {"training": {"strategy": "ddp"}, "package": {"prove": prove}}
    only(world.judge(), "strategy_can_be_proven", Verdict.FAIL, said)


def test_a_forbidden_option_pair(world: World) -> None:
    world.edit(
        "train.py", "save_total_limit=5", "save_total_limit=1, load_best_model_at_end=True, eval_strategy='steps'"
    )
    only(world.judge(), "no_forbidden_option_pairs", Verdict.FAIL, "train.py:", "save_total_limit=1")


def test_a_smoke_run_that_fails(world: World) -> None:
    world.edit("lib/settings.py", "BYTES = None", "BYTES = 1 / 0")
    found = {str(check.id): check for check in world.gate().not_passed()}
    assert found["smoke_run_passes"].verdict is Verdict.FAIL
    assert "ZeroDivisionError" in found["smoke_run_passes"].message


def test_a_smoke_run_whose_model_file_is_cut(world: World) -> None:
    world.edit("lib/settings.py", "BYTES = None", "BYTES = -40")
    only(world.judge(), "smoke_run_passes", Verdict.FAIL, "tiny.Q8_0.gguf")


def test_a_smoke_run_whose_model_file_lacks_a_tensor(world: World) -> None:
    write_gguf(world.package / "lib" / "made.bin", TINY, leave_out=frozenset({"output.weight"}))
    only(world.judge(), "smoke_run_passes", Verdict.FAIL, "every tensor is there", "output.weight")


def test_a_smoke_run_that_begins_anew_after_a_death(world: World) -> None:
    world.edit("lib/settings.py", "RESUMES = True", "RESUMES = False")
    only(world.judge(), "smoke_run_passes", Verdict.FAIL, "did not say that it goes on at step 1")


def test_a_smoke_run_that_leaves_nothing_to_go_on_from(world: World) -> None:
    world.edit("lib/settings.py", "STEPS = (1, 2)", "STEPS = (1,)")
    only(world.judge(), "smoke_run_passes", Verdict.FAIL, "there are no two checkpoints in models/output/")


def test_a_smoke_run_that_makes_another_file_after_a_death(world: World) -> None:
    world.edit("lib/settings.py", "CHANGES = False", "CHANGES = True")
    only(world.judge(), "smoke_run_passes", Verdict.FAIL, "another model file than without the death")


def test_a_smoke_run_that_hangs_is_ended(world: World) -> None:
    world.edit("train.py", "    output =", "    import time; time.sleep(60)\n    output =")
    world.changes["gates"] = {"smoke_timeout_s": 1}
    judged = world.judge()
    assert "did not end within 1 s" in judged["smoke_run_passes"].message
    assert judged[WRITTEN].verdict is Verdict.UNKNOWN  # neither the run nor the text shows a writer


def test_a_smoke_run_without_its_libraries_is_unknown(world: World) -> None:
    world.edit("train.py", "from lib import settings", "import a_library_that_is_not_here\nfrom lib import settings")
    found = world.judge()["smoke_run_passes"]
    assert found.verdict is Verdict.UNKNOWN
    assert "a_library_that_is_not_here" in found.message


def test_a_smoke_run_that_ignores_the_tiny_model_stops_at_its_memory(world: World) -> None:
    world.edit("train.py", "    output =", "    weights = bytearray(3_000_000_000)\n    output =")
    world.changes["gates"] = {"smoke_memory_gb": 1}
    said = world.judge()["smoke_run_passes"]
    assert (said.verdict is Verdict.FAIL) == process.BOUNDS_MEMORY
    hint = "at most 1.00 GB of memory (does it read the tiny model's configuration?)"
    assert (hint in said.message) == process.BOUNDS_MEMORY, said.message


def test_without_a_bound_on_memory_it_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "BOUNDS_MEMORY", False)
    smoke = preflight_smoke.run(make_job(world.package), world.package, world.root / "tried")
    assert smoke.memory.startswith("not bounded on this system")


TOLD = "print('To convert to GGUF, run: python llama.cpp/convert_hf_to_gguf.py models/merged')"


@pytest.mark.parametrize(
    ("line", "verdict", "said"),
    [
        ("pass", Verdict.UNKNOWN, "hold no writer of a GGUF that is known here"),
        (TOLD, Verdict.FAIL, "only told how: train.py:"),
        (f"{TOLD}; gguf.GGUFWriter(path, 'qwen2')", Verdict.PASS, ""),
    ],
)
def test_without_a_smoke_run_the_text_must_show_who_writes_the_artifact(
    world: World, line: str, verdict: Verdict, said: str
) -> None:
    world.edit("train.py", 'if "--smoke"', f'{line}\nif "--smoke"')
    world.changes["gates"] = {"smoke_run": False, "smoke_command": []}
    only(world.judge(), WRITTEN, verdict, said) if said else assert_only(world.judge(), Verdict.FAIL, {})
    result = world.gate()
    assert result.verdict is verdict
    assert "smoke_run_passes" not in result.required
    written = next(found for found in result.results if found.id == WRITTEN)
    (unseen,) = [sight.value for sight in written.saw if sight.name.startswith("seen by nobody")]
    for claim in ("trains at all", "goes on after a death", "batch size and the device map", "exports one model file"):
        assert claim in unseen


def test_a_machine_without_the_runtime_that_will_be_needed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.facts.runtime.find_spec", lambda _: None)
    only(world.judge(), "runtime_loads", Verdict.UNKNOWN, "no llama.cpp runtime is installed")


def test_a_runtime_that_does_not_load(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = world.root / "shadow" / "xllamacpp.py"
    shadow.parent.mkdir()
    shadow.write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(shadow.parent))
    only(world.judge(), "runtime_loads", Verdict.UNKNOWN, "libgomp.so.1")


def test_a_job_may_do_without_a_runtime(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.facts.runtime.find_spec", lambda _: None)
    world.changes["gates"] = {"generate": False}
    result = world.gate()
    assert result.verdict is Verdict.PASS
    assert "runtime_loads" not in result.required


@pytest.mark.parametrize("second_copy", [None, "usb", "usb/forex"])
def test_a_file_where_a_folder_belongs(world: World, second_copy: str | None) -> None:
    taken = world.root / "usb" if second_copy else world.destination
    taken.write_bytes(b"a file of this name")
    world.changes["artifact"] = {"second_copy": str(world.root / second_copy)} if second_copy else {}
    only(world.judge(), "artifact_size_predicted", Verdict.UNKNOWN, f"nothing can be written to {taken}")


def test_a_destination_that_cannot_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    only(world.judge(), "artifact_size_predicted", Verdict.UNKNOWN, "nothing can be written to")


def test_a_first_checkpoint_that_comes_too_late(world: World) -> None:
    world.changes["training"] = {"checkpoint_every": 330}
    world.edit("train.py", "save_steps=100", "save_steps=330")
    only(world.judge(), "checkpoints_fit_plan", Verdict.FAIL, "the first checkpoint lands after")


def test_a_script_that_saves_more_seldom_than_planned(world: World) -> None:
    world.edit("train.py", "save_steps=100", "save_steps=500")
    only(world.judge(), "checkpoints_fit_plan", Verdict.FAIL, "save_steps=500")


def test_a_disk_that_is_too_small(world: World) -> None:
    world.changes["machine"] = {"disk_gb": 21}
    only(world.judge(), "disk_plan_fits", Verdict.FAIL, "20.0", "18.90 GB of 21.00 GB")


def test_a_model_that_cannot_reach_the_floor(world: World) -> None:
    world.changes["artifact"] = {"floors": {"Q8_0": 5_000_000_000}}
    only(world.judge(), "artifact_size_predicted", Verdict.FAIL, "not over the floor of 5.00 GB")


@pytest.mark.parametrize(("short", "verdict"), [(0, Verdict.PASS), (1, Verdict.FAIL)])
def test_the_room_at_home_is_that_of_two_models_and_the_mirror(
    world: World, monkeypatch: pytest.MonkeyPatch, short: int, verdict: Verdict
) -> None:
    job = make_job(world.package)
    needed = 2 * estimate.artifact_bytes(job) + estimate.mirror_bytes(job)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": needed - short}))
    assert world.judge()["artifact_size_predicted"].verdict is verdict


@pytest.mark.parametrize(("short", "verdict"), [(0.0, Verdict.PASS), (0.01, Verdict.FAIL)])
def test_a_plan_may_cost_its_budget_and_no_cent_more(world: World, short: float, verdict: Verdict) -> None:
    world.changes["limits"] = {"budget_usd": estimate.cost(make_job(world.package)).total - short}
    assert world.judge()["cost_within_budget"].verdict is verdict


def test_too_little_room_at_home(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    only(world.judge(), "artifact_size_predicted", Verdict.FAIL, "1.00 kB are free here")


def test_a_plan_that_costs_more_than_the_budget(world: World) -> None:
    world.changes["limits"] = {"budget_usd": 15, "first_checkpoint_share": 1}
    only(world.judge(), "cost_within_budget", Verdict.FAIL, "17.39 USD, the budget is 15.00")


def test_no_api_key_says_what_is_missing(world: World) -> None:
    world.market.account_ = ProviderUnavailable("no Vast.ai API key was found")
    only(world.judge(), "credentials_work", Verdict.UNKNOWN, "no Vast.ai API key was found")


def test_another_account(world: World) -> None:
    world.market.account_ = Account(8, 100.0)
    only(world.judge(), "credentials_work", Verdict.FAIL, "belongs to account 8, expected 7")


def test_too_little_credit(world: World) -> None:
    world.market.account_ = Account(7, 3.0)
    only(world.judge(), "credentials_work", Verdict.FAIL, "3.00 USD of credit, the plan needs 17.39")


def test_a_damaged_ssh_key(world: World) -> None:
    world.key = "ssh-ed25519 AAAAC3Nza!!! gsh"
    only(world.judge(), "credentials_work", Verdict.FAIL, "the SSH public key is damaged")


def instance(number: int, label: str | None) -> Instance:
    return Instance(
        InstanceId(number),
        label,
        InstanceStatus.RUNNING,
        "running",
        "",
        1,
        "H100",
        8,
        15.5,
        150,
        (),
        None,
        None,
        is_bid=False,
    )


def test_an_instance_that_no_job_knows(world: World) -> None:
    world.market.listed = (
        instance(5, "gsh-small-00000000"),
        instance(6, "gsh-other-00000000"),
        instance(7, "web server"),
    )
    world.known = Known({InstanceId(5): claim(5, gone=False)})
    found = only(world.judge(), "no_orphans", Verdict.FAIL, "instance 6 gsh-other-00000000")
    assert "instance 5" not in found.message
    assert "instance 7" not in found.message


def claim(number: int, *, gone: bool) -> Claim:
    return Claim(job_name("small"), InstanceId(number), gone, usd=None, now="closed")


def test_an_instance_that_a_job_took_for_gone(world: World) -> None:
    world.market.listed = (instance(5, "gsh-small-00000000"),)
    world.known = Known({InstanceId(5): claim(5, gone=True)})
    only(world.judge(), "no_orphans", Verdict.FAIL, "instance 5 gsh-small-00000000")


def volume(number: int, label: str | None, *users: int) -> Volume:
    return Volume(VolumeId(number), label, 1, 20.0, 0.004, tuple(InstanceId(user) for user in users))


def test_volumes_that_no_job_answers_for(world: World) -> None:
    world.market.stored = (
        volume(1, "my data"),
        volume(2, "gsh-other-00000000"),
        volume(3, "x", 5),
        volume(4, "x"),
        volume(6, "x"),
    )
    world.known = Known(
        {InstanceId(5): claim(5, gone=False)}, {VolumeId(4): job_name("small"), VolumeId(6): job_name("small")}
    )
    world.changes = {"provider": {"kept_volumes": [6]}}
    found = only(world.judge(), "no_orphans", Verdict.FAIL, "volume 2 gsh-other-00000000 20 GB", "volume 4 x")
    for number in (1, 3, 6):
        assert f"volume {number}" not in found.message


def test_volumes_that_cannot_be_listed_are_not_none(world: World) -> None:
    world.market.stored = ProviderUnavailable("GET /volumes/ answered 502")
    only(world.judge(), "no_orphans", Verdict.UNKNOWN, "GET /volumes/ answered 502")


def test_a_jobs_log_that_does_not_read_may_hide_what_bills(world: World) -> None:
    world.known = Known(unreadable=(job_name("other"),))
    only(world.judge(), "no_orphans", Verdict.UNKNOWN, "the log of job other does not read")
    world.market.listed = (instance(6, "gsh-other-00000000"),)
    only(world.judge(), "no_orphans", Verdict.UNKNOWN, "instance 6 gsh-other-00000000")


def test_an_older_model_file_at_the_destination(world: World) -> None:
    world.destination.mkdir()
    (world.destination / "forex.Q8_0.GGUF").write_bytes(b"old")
    (world.destination / "notes.txt").write_bytes(b"mine")
    only(world.judge(), "destination_is_clean", Verdict.FAIL, "forex.Q8_0.GGUF")


def _recorded(*events: JobEvent) -> tuple[Record, ...]:
    return tuple(Record(seq, JobName("small"), 0.0, *encode(event), "", "") for seq, event in enumerate(events, 1))


ARTIFACT = ArtifactRecorded("models/output/final/forex.Q8_0.gguf", 4, Sha256("0" * 64))


def test_the_jobs_own_file_is_no_stranger(world: World) -> None:
    world.destination.mkdir()
    (world.destination / "forex.Q8_0.gguf").write_bytes(b"ours")
    (world.destination / ".forex.Q8_0.gguf.00ff.part").write_bytes(b"ours")
    world.recorded = _recorded(ARTIFACT)
    assert_only(world.judge(), Verdict.FAIL, {})


def test_what_only_resembles_the_jobs_own_file_is_an_older_one(world: World) -> None:
    world.destination.mkdir()
    (world.destination / "my-forex.Q8_0.gguf").write_bytes(b"another")
    (world.destination / "other.gguf.part").write_bytes(b"another's")
    world.recorded = _recorded(ARTIFACT)
    for name in ("my-forex.Q8_0.gguf", "other.gguf.part"):
        only(world.judge(), "destination_is_clean", Verdict.FAIL, name)


def test_a_download_that_a_dead_instance_began_is_no_stranger(world: World) -> None:
    world.destination.mkdir()
    (world.destination / "forex.Q8_0.gguf.part").write_bytes(b"ours")
    lost = Lost(InstanceId(4711), "typed yes", machine_id=12, package=None, absence={})
    world.recorded = _recorded(ARTIFACT, lost, lost)
    assert_only(world.judge(), Verdict.FAIL, {})


def test_nothing_staged_is_unknown_everywhere_it_matters(world: World) -> None:
    job = make_job(world.package)
    context = JobContext(job, world.root / "job", world.destination)
    path = world.root / "facts.json"
    looked_at(context, path)
    verdicts = {str(found.id): found.verdict for found in judge.judge(path).not_passed()}
    assert set(verdicts.values()) == {Verdict.UNKNOWN}
    assert {"package_files_complete", "dataset_counts", "no_forbidden_launcher", "smoke_run_passes"} <= set(verdicts)


def test_a_package_that_cannot_be_staged_is_bad_input(world: World) -> None:
    shutil.rmtree(world.package)
    with pytest.raises(BadInput, match="is not a directory") as refused:
        world.judge()
    assert "relative paths begin where the file lies" in refused.value.remedy


AT_ONCE = {
    "package_files_complete",
    "image_fits_package",
    "disk_plan_fits",
    "artifact_size_predicted",
    "cost_within_budget",
    "credentials_work",
    "no_orphans",
    "destination_is_clean",
    "runtime_loads",
}
"""Checks of a sound job that its first look judges."""


def first(world: World) -> dict[str, CheckResult]:
    """What the first look says, on a package that nobody has staged."""
    job = make_job(world.package, **world.changes)
    context = JobContext(job, world.root / "unstaged", world.destination, world.market, world.key, world.known)
    context.recorded = world.recorded
    seen = preflight.first_look(context)  # type: ignore[arg-type]  # the box is not part of preflight
    assert not context.directory.exists()
    return {result.id: result for result in judge_at_once(job, seen).results}


def test_a_first_look_at_a_sound_job_holds_nothing(world: World) -> None:
    judged = first(world)
    assert set(judged) == AT_ONCE
    assert {result.verdict for result in judged.values()} == {Verdict.PASS}
    assert all(result.saw and result.claim and not result.remedy for result in judged.values())


def _older(world: World) -> None:
    world.destination.mkdir()
    (world.destination / "old.gguf").write_bytes(b"x")


def _destination_is_a_file(world: World) -> None:
    world.destination.write_bytes(b"x")


def _poor(world: World) -> None:
    world.market.account_ = Account(7, 0.01)


def _another_account(world: World) -> None:
    world.market.account_ = Account(8, 100.0)


def _damaged_key(world: World) -> None:
    world.key = "ssh-ed25519 AAAA"


def _forgotten(world: World) -> None:
    world.market.listed = (instance(6, "gsh-gone-0a1b2c3d"),)


def _dear(world: World) -> None:
    world.changes["limits"] = {"budget_usd": 0.5}


def _small_disk(world: World) -> None:
    world.changes["machine"] = {"disk_gb": 10}


def _no_document(world: World) -> None:
    (world.package / "README.md").unlink()


def _old_image(world: World) -> None:
    world.changes["machine"] = {"image": "pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel"}
    world.changes["package"] = {"needs": {"torch": "2.6"}}


BROKEN: tuple[tuple[Callable[[World], None], str, Verdict], ...] = (
    (_older, "destination_is_clean", Verdict.FAIL),
    (_destination_is_a_file, "artifact_size_predicted", Verdict.UNKNOWN),
    (_poor, "credentials_work", Verdict.FAIL),
    (_another_account, "credentials_work", Verdict.FAIL),
    (_damaged_key, "credentials_work", Verdict.FAIL),
    (_forgotten, "no_orphans", Verdict.FAIL),
    (_dear, "cost_within_budget", Verdict.FAIL),
    (_small_disk, "disk_plan_fits", Verdict.FAIL),
    (_no_document, "package_files_complete", Verdict.FAIL),
    (_old_image, "image_fits_package", Verdict.FAIL),
)


@pytest.mark.parametrize(("spoil", "check", "verdict"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_a_first_look_says_in_preflights_words_what_preflight_would_say(
    world: World, spoil: Callable[[World], None], check: str, verdict: Verdict
) -> None:
    spoil(world)
    early, later = first(world), world.judge()
    assert early[check].verdict is verdict
    assert early[check].message == later[check].message
    assert early[check].remedy.endswith("harness run small")
    for name, result in early.items():
        assert (result.verdict, result.message) == (later[name].verdict, later[name].message)


def test_a_first_look_tells_all_problems_together(world: World) -> None:
    for spoil in (_older, _poor, _forgotten, _small_disk, _no_document):
        spoil(world)
    shut = {name for name, result in first(world).items() if result.verdict is not Verdict.PASS}
    assert shut == {
        "destination_is_clean",
        "credentials_work",
        "no_orphans",
        "disk_plan_fits",
        "package_files_complete",
    }


def test_a_provider_that_does_not_answer_is_waited_for_and_told_once(world: World) -> None:
    world.market.account_ = ProviderUnavailable("no network")
    world.market.stored = AssertionError("it is not asked again")
    judged = first(world)
    assert judged["credentials_work"].verdict is Verdict.UNKNOWN
    assert "no network" in judged["credentials_work"].message
    assert "no_orphans" not in judged


def test_what_is_told_is_not_looked_at_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Market, "account", lambda _: pytest.fail("it was asked before"))
    job = make_job(world.package)
    context = JobContext(job, world.root / "unstaged", world.destination, world.market)
    seen = preflight.first_look(context, account=observed(Account(7, 3.0)))  # type: ignore[arg-type]
    assert seen.account.get().credit_usd == 3.0


def test_files_that_the_preparation_is_to_make_are_not_missed(world: World) -> None:
    for path in (world.package / "data").iterdir():
        path.unlink()
    assert first(world)["package_files_complete"].verdict is Verdict.FAIL
    world.changes["package"] = {"prepare": ["python3", "train.py", "--prepare"]}
    assert "package_files_complete" not in first(world)


def test_a_package_that_cannot_be_staged_is_refused_at_once(world: World) -> None:
    shutil.rmtree(world.package)
    with pytest.raises(BadInput, match="is not a directory"):
        first(world)


def test_a_job_without_a_generation_does_without_the_runtime(world: World) -> None:
    world.changes["gates"] = {"generate": False}
    assert set(first(world)) == AT_ONCE - {"runtime_loads"}


@pytest.mark.parametrize(
    ("text", "command", "installed", "held"),
    [
        ("import torch", ["python3", "train.py"], False, True),
        ("def train():\n    from torch import nn", ["python3", "train.py"], False, True),
        ("import torch.nn as nn", ["python3", "train.py"], False, True),
        ("import torch", ["python3", "train.py"], True, False),
        ("import torch", ["./venv/bin/python", "train.py"], False, False),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None", ["python3", "train.py"], False, False),
        ("if GPU:\n    import torch", ["python3", "train.py"], False, False),
        ("import torchvision", ["python3", "train.py"], False, False),
        ("import json", ["python3", "train.py"], False, False),
        ("# import torch", ["python3", "train.py"], False, False),
    ],
)
def test_a_smoke_run_that_cannot_train_here_is_told_before_it_is_tried(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    *,
    text: str,
    command: list[str],
    installed: bool,
    held: bool,
) -> None:
    (world.package / "lib" / "settings.py").write_text(text + "\n")
    world.changes["gates"] = {"smoke_command": command}
    there = find_spec("json") if installed else None
    monkeypatch.setattr(preflight_smoke, "find_spec", lambda name: there if name == "torch" else find_spec(name))
    judged = first(world)
    assert ("smoke_run_passes" in judged) is held
    if held:
        assert judged["smoke_run_passes"].verdict is Verdict.UNKNOWN
        assert "it imports torch" in judged["smoke_run_passes"].message
        assert "pip install 'gold-standard-harness[training]'" in judged["smoke_run_passes"].message


TORCH = {"lib/settings.py": "import torch\n"}


@pytest.mark.parametrize(
    ("files", "gates", "held"),
    [
        (TORCH, {"smoke_command": ["python3", "-u", "./train.py", "--smoke"]}, True),
        (TORCH, {"smoke_files": {"smoke.toml": "steps = 2"}}, True),
        (TORCH | {"stub.py": ""}, {"smoke_command": ["python3", "stub.py"]}, False),
        (TORCH | {"stub.py": ""}, {"smoke_command": ["python3", "stub.py", "train.py"]}, False),
        (TORCH, {"smoke_command": ["python3", "-m", "compileall", "train.py"]}, False),
        (TORCH, {"smoke_command": ["python3", "-c", "print()", "train.py"]}, False),
        (TORCH, {"smoke_command": ["python3"]}, False),
        (TORCH, {"smoke_files": {"lib/settings.py": "import json"}}, False),
        (TORCH, {"smoke_files": {"train.py": "print()"}}, False),
        (TORCH, {"smoke_files": {"torch/__init__.py": "tiny = True"}}, False),
        (TORCH | {"torch.py": ""}, {}, False),
    ],
)
def test_only_a_smoke_run_of_the_entry_as_it_is_needs_what_the_entry_imports(
    world: World, monkeypatch: pytest.MonkeyPatch, *, files: dict[str, str], gates: dict[str, Any], held: bool
) -> None:
    for name, text in files.items():
        (world.package / name).write_text(text)
    world.changes["gates"] = gates
    monkeypatch.setattr(preflight_smoke, "find_spec", lambda _: None)
    assert ("smoke_run_passes" in first(world)) is held


def test_an_entry_that_is_not_there_is_told_by_the_check_of_the_files_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.package / "train.py").unlink()
    monkeypatch.setattr(preflight_smoke, "find_spec", lambda _: None)
    assert set(first(world)) & {"package_files_complete", "smoke_run_passes"} == {"package_files_complete"}


def test_a_job_that_does_not_say_how_to_try_its_package_is_told_at_once(world: World) -> None:
    world.changes["gates"] = {"smoke_command": []}
    assert "gates.smoke_command is empty" in first(world)["smoke_run_passes"].message


def test_a_check_that_breaks_in_a_first_look_is_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Job) -> Any:
        raise RuntimeError("odd")

    monkeypatch.setattr("harness.job.estimate.disk", broken)
    result = first(world)["disk_plan_fits"]
    assert result.verdict is Verdict.UNKNOWN
    assert "could not judge: RuntimeError: odd" in result.message


def test_the_long_looks_are_shown(world: World) -> None:
    job = make_job(world.package)
    context = JobContext(job, world.root / "job", world.destination, world.market)
    staging.stage_package(job, context.directory)
    facts.look(Stage.PREFLIGHT, context)  # type: ignore[arg-type]  # the box is not part of preflight
    smoke = ("smoke run: the package trains a tiny model here, twice", 0, 120)
    assert smoke in context.shown, "the rows are read meanwhile"
    rows = [shown for shown in context.shown if shown != smoke]
    assert rows == [("rows", 0, 16), ("rows", 8, 16), ("rows", 12, 16), ("rows", 16, 16)]
