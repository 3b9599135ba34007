"""A whole job on a real base: SmolLM2 in its own turns, one GPU, its model home and word for word what was trained."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.ledger.events import ArtifactRecorded, Closed
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from harness.providers.emulated import open_emulated, stop_emulator
from tests.support import real_bases
from tests.support.job_histories import events_of
from tests.support.warm import warm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
ROOT = Path(__file__).resolve().parents[2]
JOB = JobName("real-base")
ROWS: Mapping[str, int] = {
    "real_feature_examples.jsonl": 16,
    "real_trade_scenarios.jsonl": 8,
    "real_dpo_pairs.jsonl": 8,
}
SETTINGS = """
[model]
name = "base"
max_length = 320
reasoning = "drop"
[lora]
r = 8
alpha = 16
[sft]
learning_rate = 1e-3
max_steps = 4
accumulation = 1
warmup_steps = 1
micro_batch = 2
[dpo]
learning_rate = 1e-4
epochs = 1.0
warmup_steps = 1
micro_batch = 2
[run]
checkpoint_every = 2
checkpoint_limit = 2
gradient_checkpointing = false
threads = 2
[export]
name = "smollm2"
quantizations = ["F16"]
"""
JOB_FILE = """
name = "{job}"
profile = "forex-r1-v3"

[provider]
kind = "emulated"

[machine]
gpus = 1
max_usd_per_hour = 4.0

[package]
source = "{package}"
remote_dir = "workspace/vastai_llm_training"
readiness = ["python3", "train_deepseek_forex.py", "--stage", "ready", "--config", "configs/smollm2.toml"]

[data]
features = 16
scenarios = 8
pairs = 8
allow_built_rows = true

[model]
base = "base"
architecture = "LlamaForCausalLM"
hidden_size = 576
num_hidden_layers = 30
num_attention_heads = 9
num_key_value_heads = 3
intermediate_size = 1536
vocab_size = 49152
tie_word_embeddings = true
lora_r = 8
lora_alpha = 16
dtype = "float32"
max_length = 320
template_tokens = 48

[training]
command = ["python3", "train_deepseek_forex.py", "--stage", "all", "--config", "configs/smollm2.toml"]
batch_size = 2
accumulation = {{ sft = 1 }}
accelerator = "cpu"
checkpoint_every = 2
checkpoints_kept = 2
sft_steps = 4
dpo_steps = 4

[artifact]
quantization = "F16"
floors = {{ F16 = 250_000_000 }}

[gates.smoke_files]
"smoke.toml" = '''
[model]
max_length = 320
reasoning = "drop"
[model.built]
like = "base"
[sft]
max_steps = 2
[dpo]
max_steps = 2
[run]
checkpoint_every = 1
gradient_checkpointing = false
threads = 1
'''

[limits]
min_epochs = 0.3  # 8 of 24 rows: a real base takes its time
# A test's machine has other work.
stall_s = 900
launch_deadline_s = 1800
poll_s = 3
judge_every_s = 30
setup_s = 60
load_s = 60
export_s = 60
download_s = 60
sft_s_per_step = 30.0
dpo_s_per_step = 60.0
pace_tolerance = 10.0
min_disk_free_share = 0.02
absence_window_s = 3
"""


class RealJob:
    """A home with one job on SmolLM2, driven by real processes."""

    def __init__(self, base: Path, rows: Path, folder: Path) -> None:
        self.base, self.home, self.file = base, folder / "home", folder / "job.toml"
        package = folder / "package"
        shutil.copytree(ROOT / "training_pkg", package, ignore=shutil.ignore_patterns("__pycache__", "data", "models"))
        script = package / "train_deepseek_forex.py"
        script.write_text(
            script.read_text(encoding="utf-8").replace("BATCH_SIZE = 32", "BATCH_SIZE = 2"), encoding="utf-8"
        )
        (package / "configs/smollm2.toml").write_text(SETTINGS, encoding="utf-8")
        shutil.copytree(base, package / "base", copy_function=os.link)  # a box sees nothing else of this machine
        data = package / "data/forex_integrated"
        data.mkdir(parents=True)
        for name, count in ROWS.items():
            lines = (rows / name).read_text(encoding="utf-8").splitlines(keepends=True)
            (data / name).write_text("".join(lines[:: len(lines) // count][:count]), encoding="utf-8")
        text = JOB_FILE.format(job=JOB, package=package.as_posix())
        self.file.write_text(text, encoding="utf-8")
        self.environment = {**os.environ, "HARNESS_HOME": str(self.home)}

    @property
    def artifact(self) -> Path:
        """The model file at home."""
        (found,) = (self.home / "jobs" / JOB / "artifact").glob("*.gguf")
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness", *words, "--yes", "--plain"]
        return warm().run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)

    def gate(self, stage: str) -> str:
        """What a gate says that is judged anew, which must be shut."""
        quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore:The distutils package:DeprecationWarning"]
        command = [sys.executable, "-m", "pytest", "checks/", f"--stage={stage}", *quiet]
        shut = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert shut.returncode != 0, shut.stdout
        return shut.stdout

    def events(self) -> tuple[JobEvent, ...]:
        return events_of(open_store(self.home / "state.db", SystemClock()).records(JOB))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealJob]:
    sys.path.insert(0, str(ROOT / "training_pkg"))
    from forex import builder, rates

    kept = real_bases.kept(tmp_path_factory)
    folder = tmp_path_factory.mktemp("real-base")
    real_bases.write_smollm2(real_bases.fetched(real_bases.SMOLLM2, kept), folder / "base")
    builder.build(folder / "rows", history=rates.default_file(), eval_from="2025-01-01", seed=17)
    made = RealJob(folder / "base", folder / "rows", folder)
    yield made
    stop_emulator(made.home / "emulator")


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")  # of peft
def test_a_real_base_comes_home_saying_what_it_was_taught(job: RealJob) -> None:
    done = job.run("run", str(job.file), "--until", "postdownload")
    assert done.returncode == 0, done.stdout + done.stderr
    artifact = job.artifact
    whole = artifact.read_bytes()
    artifact.chmod(0o644)
    artifact.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "FAIL local_sha256_equals_remote" in job.gate("postdownload")
    artifact.unlink()
    assert "FAIL local_file_exists" in job.gate("postdownload")
    artifact.write_bytes(whole)

    (log,) = job.home.glob("emulator/**/vastai_llm_training/training.log")
    own = log.read_bytes()
    log.write_bytes(own.replace(b"batch_size=2 ", b"batch_size=32 ").replace(b"/4 ", b"/330 "))
    assert "FAIL all_steps_done" in job.gate("posttrain")
    log.write_bytes(own)

    done = job.run("run", str(job.file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert isinstance(job.events()[-1], Closed)
    assert not open_emulated(job.home / "emulator", SystemClock()).instances().ids()
    assert hashlib.sha256(artifact.read_bytes()).hexdigest() in [
        event.sha256 for event in job.events() if isinstance(event, ArtifactRecorded)
    ]
    _says_what_transformers_says(job, artifact)


def _says_what_transformers_says(job: RealJob, artifact: Path) -> None:
    import torch
    import xllamacpp
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    adapter = job.home / "jobs" / JOB / "companions" / "models/output/adapter"
    words = PreTrainedTokenizerFast.from_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().eval()
    params = xllamacpp.CommonParams()
    params.model.path = str(artifact)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, -1
    server = xllamacpp.Server(params)
    for question in ("What is the capital of France?", "EURUSD fell. Where will it stand?", "Count: 1 2 3"):
        turns = [{"role": "user", "content": question}]
        text = words.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = words(text, add_special_tokens=False)["input_ids"]
        asked = torch.tensor([ids])
        wanted = model.generate(asked, attention_mask=torch.ones_like(asked), max_new_tokens=24, do_sample=False)
        answer = server.handle_chat_completions({"messages": turns, "max_tokens": 24, "temperature": 0})
        said = words.decode(wanted[0, len(ids) :], skip_special_tokens=True)
        assert answer["usage"]["prompt_tokens"] == len(ids)
        assert answer["choices"][0]["message"]["content"] == said
