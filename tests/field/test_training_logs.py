"""What people's training logs hold: lines that speak of an error and lines that only sound so, and courses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import expectation
from harness.artifacts.judging import kind_of
from harness.core.verdict import Verdict
from harness.log import grammar
from harness.log.errors import ErrorKind, error_line
from harness.log.judging import judge
from tests.field.case import field_case
from tests.support.facts import PLAN, PROOF, V2, step_lines, whole_log

BAR = " 31%|███▏      | 331/1063 [01:06<03:59,  3.06it/s]"
WATCHDOG = (
    "[rank2]:[E626 05:06:30.929096625 ProcessGroupNCCL.cpp:632] [Rank 2] Watchdog caught collective operation timeout: "
    "WorkNCCL(SeqNum=120049, OpType=_ALLGATHER_BASE, Timeout(ms)=1800000) ran for 1800065 milliseconds"
)
STUCK = (
    "[rank7]:[E626 05:14:36 ProcessGroupNCCL.cpp:1743] [PG ID 0 Rank 7] ProcessGroupNCCL's watchdog got stuck for 480 s"
)
PLAN_FAILED = (
    "conv.py:456: UserWarning: Plan failed with a cudnnException: cudnnFinalizeDescriptor Failed cudnn_status: "
    "CUDNN_STATUS_NOT_SUPPORTED (Triggered internally at ../aten/src/ATen/native/cudnn/Conv_v8.cpp:919.)"
)
NO_KERNEL = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
ROW = '{"prompt": "What is this?", "completion": "Traceback (most recent call last):\\n  CUDA error: out of memory"}'
STORAGE_FULL = (
    "safetensors_rust.SafetensorError: Error while serializing: "
    'IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'
)
RECORD = '{"ts": 1, "level": "error", "msg": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"}'

KILLED, OOM, CUDA = ErrorKind.KILLED, ErrorKind.OUT_OF_MEMORY, ErrorKind.CUDA
ERRORS = [
    field_case(
        "bash-killed",
        "chenhsuanlin/spatial-transformer-GAN#35",
        "./train.sh: line 1:  7364 Killed                  python3 train_Donly.py --name=D0",
        KILLED,
    ),
    field_case("killed-behind-a-bar", "InternLandMark/LandMark#65", f"{BAR}Killed", KILLED),
    field_case("killed-alone", "nshepperd/gpt-2#61", "Killed", KILLED),
    field_case("zsh", "own: the shell of every Mac", "zsh: killed     python train.py", KILLED),
    field_case("job", "own: a job in the background", "[1]+  Killed                  nohup python3 train.py", KILLED),
    field_case(
        "core", "own: bash with a core", "run.sh: line 12:  4711 Segmentation fault      (core dumped) ./q", KILLED
    ),
    field_case("fatal", "own: faulthandler's own words", "Fatal Python error: Segmentation fault", KILLED),
    field_case("fatal-rank", "own: with torch's prefix", "[rank0]: Fatal Python error: Aborted", KILLED),
    field_case("terminate", "own: libstdc++", "terminate called after throwing an instance of 'c10::Error'", KILLED),
    field_case("free", "own: glibc", "double free or corruption (!prev)", KILLED),
    field_case("malloc", "own: glibc", "malloc(): corrupted top size", KILLED),
    field_case(
        "worker",
        "hkchengrex/STCN#132",
        "RuntimeError: DataLoader worker (pid 46794) is killed by signal: Bus error. It is possible that",
        KILLED,
    ),
    field_case(
        "shm",
        "open-mmlab/mmsegmentation#1356",
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).",
        KILLED,
    ),
    field_case(
        "workers", "own: torch's plural", "RuntimeError: DataLoader worker (pid(s) 71, 72) exited unexpectedly", KILLED
    ),
    field_case(
        "launcher",
        "2U1/Qwen-VL-Series-Finetune#79",
        "[launch.py:325:sigkill_handler] exits with return code = -9",
        KILLED,
    ),
    field_case(
        "elastic", "own: torchelastic", "failed (exitcode: -9) local_rank: 0 (pid: 12) of binary: python3", KILLED
    ),
    field_case(
        "code-137", "davidsandberg/facenet#236", "Process finished with exit code 137 (interrupted by signal 9)", KILLED
    ),
    field_case(
        "kernel", "own: dmesg", "python3[812]: segfault at 7f00 ip 00007f3e sp 00007ffc error 4 in libc.so", KILLED
    ),
    field_case(
        "datasets",
        "own: multiprocess map",
        "RuntimeError: One of the subprocesses has abruptly died during map",
        KILLED,
    ),
    field_case("watchdog", "snowflakedb/ArcticTraining#219", WATCHDOG, ErrorKind.NCCL),
    field_case("watchdog-stuck", "snowflakedb/ArcticTraining#219", STUCK, ErrorKind.NCCL),
    field_case(
        "watchdog-end",
        "hiyouga/LlamaFactory#8261",
        "[rank4]:[E602] [Rank 4] Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA",
        ErrorKind.NCCL,
    ),
    field_case("cudnn", "own: torch", "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", CUDA),
    field_case(
        "cublas", "own: torch", "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `x`", CUDA
    ),
    field_case("no-kernel", "own: an error that begins with 'no'", NO_KERNEL, CUDA),
    field_case("assert", "own: torch", "RuntimeError: CUDA error: device-side assert triggered", CUDA),
    field_case("host-oom", "own: the kernel", "Out of memory: Killed process 4711 (python3) total-vm:91231kB", OOM),
    field_case("cgroup", "own: a container", "Memory cgroup out of memory: Killed process 4711 (python3)", OOM),
    field_case("slurm", "own: slurm", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.batch.", OOM),
    field_case("slurm-new", "own: a newer slurm", "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.", OOM),
    field_case("rust", "own: safetensors tells it in Rust's words", STORAGE_FULL, ErrorKind.NO_SPACE),
    field_case(
        "cpu-oom", "own: torch on the CPU", "[enforce fail at alloc_cpu.cpp:83] . DefaultCPUAllocator: not enough", OOM
    ),
    field_case("fork", "own: bash", "bash: fork: Cannot allocate memory", OOM),
    field_case("numpy", "own: numpy", "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3.1 GiB", OOM),
    field_case("logger", "own: a logger's record is a message", RECORD, OOM),
    field_case("quota", "own: NFS", "OSError: [Errno 122] Disk quota exceeded", ErrorKind.NO_SPACE),
    field_case(
        "torch-save",
        "own: a full disk",
        "RuntimeError: [enforce fail at inline_container.cc:603] . unexpected pos",
        ErrorKind.NO_SPACE,
    ),
    field_case(
        "read-only", "own: a disk that fails", "OSError: [Errno 30] Read-only file system: 'a'", ErrorKind.STORAGE
    ),
    field_case("io", "own: a disk that fails", "cp: error reading 'model.bin': Input/output error", ErrorKind.STORAGE),
    field_case("bus", "own: the GPU is gone", "NVRM: GPU 0000:65:00.0: GPU has fallen off the bus.", ErrorKind.XID),
    field_case(
        "behind-a-bar", "own: stderr behind tqdm", f"{BAR}Traceback (most recent call last):", ErrorKind.TRACEBACK
    ),
    field_case("rich", "own: rich draws a box", "╭──── Traceback (most recent call last) ────╮", ErrorKind.TRACEBACK),
]

LOOK_ALIKES = [
    field_case("info", "own: NCCL's own chatter", "box:1:9 [0] NCCL INFO Channel 00 : 0 -> 1 timeout 20"),
    field_case(
        "info-error", "own: NCCL_DEBUG=INFO", "box:1:9 [0] NCCL INFO NET/IB : ncclSystemError retried, timed out 20"
    ),
    field_case(
        "iommu", "own: NCCL on most clouds", 'box:1:9 [0] NCCL WARN Missing "iommu=pt" from kernel command line'
    ),
    field_case("settings", "own: an environment is printed", "NCCL_ASYNC_ERROR_HANDLING=1 TORCH_NCCL_TIMEOUT=1800"),
    field_case("count", "own: a count", "validated 2550 rows, 0 errors, CUDA errors: 0"),
    field_case("none", "own: a report", "last CUDA error: no error"),
    field_case("rate", "own: a metric", "eval: error rate 0.12, word error 3.1 %"),
    field_case("killed-count", "own: a progress line", "Killed: 12/30 zombie workers of an earlier run"),
    field_case("killed-words", "own: a text of a dataset", "Killed in action, the captain was buried at sea."),
    field_case("aborted", "own: a progress line", "Aborted 3 uploads that were stale"),
    field_case("row", "own: a row of data is printed", ROW),
    field_case(
        "row-python", "own: a row of data is printed", "{'chosen': 'Fatal Python error: Aborted', 'rejected': ''}"
    ),
    field_case("quoted", "own: a text of a dataset", "user asks: why does 'No space left on device' appear?"),
    field_case("hint", "own: a hint", "To avoid CUDA out of memory, lower micro_batch or max_length"),
    field_case("hint-2", "own: a hint", "If you run out of memory, try gradient checkpointing (MemoryError is caught)"),
    field_case("docker", "own: docker inspect", '    "OOMKilled": false,'),
    field_case("success", "own: cuDNN says that all is well", "cudnnCreate -> CUDNN_STATUS_SUCCESS"),
    field_case("plan-failed", "pytorch/pytorch: a warning of convolution, followed by another plan", PLAN_FAILED),
    field_case("dsa", "own: torch's advice", "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."),
    field_case("told", "own: a text about tracebacks", "The log shows Traceback (most recent call last) when it fails"),
    field_case("exit-0", "own: a job that ended", "worker finished with exit code 0"),
    field_case("resnet", "own: a name", "loaded skill-terminated-v2 from bad_allocation/"),
]


@pytest.mark.parametrize(("line", "kind"), ERRORS)
def test_a_line_that_speaks_of_an_error(line: str, kind: ErrorKind) -> None:
    found = error_line(line)
    assert found is not None
    assert found.kind is kind
    assert re.search(grammar.matters(PROOF).encode(), line.encode()), "the box would not send it"


@pytest.mark.parametrize("line", LOOK_ALIKES)
def test_a_line_that_only_sounds_so(line: str) -> None:
    assert error_line(line) is None


def v4(losses: Iterable[float], rates: Iterable[float], **more: float) -> list[str]:
    """As transformers 4 prints it: numbers, behind nothing."""
    return [
        str({"loss": loss, "grad_norm": 1.25, "learning_rate": rate, "epoch": round(at / 100, 2), **more})
        for at, (loss, rate) in enumerate(zip(losses, rates, strict=True))
    ]


def v5(losses: Iterable[float], rates: Iterable[float], **more: float) -> list[str]:
    """As transformers 5 prints it: text, behind a progress bar."""
    lines = v4(losses, rates, **more)
    return [f"{BAR}\r{BAR}   " + re.sub(r": ([^,}]+)", r": '\1'", line) for line in lines]


def rates(count: int, peak: float = 2e-5) -> list[float]:
    """A linear decay from the peak, the first step of its warm-up at 0."""
    return [0.0] + [peak * (1 - at / count) for at in range(1, count)]


def falling(count: int, start: float = 2.1) -> list[float]:
    return [round(start * math.exp(-at / count) + 0.01 * (at * 7 % 5), 4) for at in range(count)]


def preferring(count: int) -> list[float]:
    return [round(math.log(2) - 0.3 * at / count + 0.02 * (at * 7 % 5) * at / count, 4) for at in range(count)]


def swift(losses: Iterable[float], lr: Iterable[float], total: int, **more: float) -> list[dict[str, Any]]:
    """Records of ms-swift, every tenth step."""
    return [
        {"loss": loss, "token_acc": 0.61, "grad_norm": 1.9, "learning_rate": rate, "memory(GiB)": 15.8}
        | {"train_speed(iter/s)": 0.25, **more, "epoch": round(10 * at / total, 4)}
        | {"global_step/max_steps": f"{10 * at}/{total}", "percentage": f"{1000 * at / total:.2f}%"}
        | {"elapsed_time": "1h 54m 53s", "remaining_time": "9h 30m 16s"}
        for at, (loss, rate) in enumerate(zip(losses, lr, strict=True), start=1)
    ]


def swift_end(total: int) -> list[dict[str, Any]]:
    history = [{"loss": 9.0, "epoch": 0.1, "step": 10}]
    return [
        {"train_runtime": 64.2, "train_loss": 1.2, "epoch": 3.0, "global_step/max_steps": f"{total}/{total}"},
        {"last_model_checkpoint": "/root/output/v0-1/checkpoint-9", "best_metric": 0.2, "log_history": history},
    ]


def factory(losses: Iterable[float], rates: Iterable[float], total: int) -> list[str]:
    """``trainer_log.jsonl`` of LLaMA-Factory."""
    told = [
        {"current_steps": at, "total_steps": total, "loss": loss, "eval_loss": None, "reward": None}
        | {"learning_rate": rate, "epoch": at / total, "percentage": 100 * at / total, "elapsed_time": "0:27:55"}
        for at, (loss, rate) in enumerate(zip(losses, rates, strict=True), start=1)
    ]
    return [json.dumps(one) for one in told]


def tune(losses: Iterable[float], rates: Iterable[float], first: int = 1, more: str = "") -> list[str]:
    """As torchtune's loggers write it."""
    return [
        f"Step {at} | loss:{loss!r} lr:{rate!r} tokens_per_second_per_gpu:405.04 {more}"
        for at, (loss, rate) in enumerate(zip(losses, rates, strict=True), start=first)
    ]


def fixed(lines: list[str], digits: int, rate: Callable[[int], float]) -> list[str]:
    """The contract's steps of SFT with a rate that is printed with so many digits."""

    def printed(found: re.Match[str]) -> str:
        return f"{found[1]}lr={rate(int(found[2])):.{digits}f}"

    return [re.sub(r"(\[sft\] step (\d+)/.*)lr=\S+", printed, line) for line in lines]


def linear(step: int) -> float:
    """A rate of 0.0002 that decays to 0 over 330 steps."""
    return 2e-4 * (1 - step / 330)


def scheduled(lines: list[str], schedule: str = "linear warmup_steps=0 lr=0.0002") -> list[str]:
    return [lines[0], PLAN, f"[sft] SCHEDULE {schedule}", *lines[2:]]


END = "{'train_runtime': 61.2, 'train_samples_per_second': 4.1, 'train_loss': 1.2, 'epoch': 1.0}"
END_5 = "{'train_runtime': '61.2', 'train_loss': '1.2', 'epoch': '1'}"

LN_2 = [0.6931] * 80
CRASH = ["Traceback (most recent call last):", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"]
SOUND = [
    field_case(
        "resumed",
        "own: a bare log whose training crashed and was started again",
        [*v4(falling(60), rates(60)), *CRASH, *v4(falling(60)[30:], rates(60)[30:]), END],
    ),
    field_case(
        "evaluated",
        "own: evaluations between the steps",
        [
            *v4(falling(30), rates(60)[:30]),
            "{'eval_loss': 1.4, 'epoch': 0.3}",
            *v4(falling(60)[30:], rates(60)[30:]),
            END,
        ],
    ),
    field_case("contract", "own: the package's whole log", whole_log()),
    field_case("v4", "own: SFT as transformers 4 prints it", [*v4(falling(60), rates(60)), END]),
    field_case("v5", "own: SFT as transformers 5.23 printed it here", [*v5(falling(60), rates(60)), END_5]),
    field_case(
        "both",
        "own: SFT, then DPO, as TRL 1.16 printed them here",
        [*v5(falling(40), rates(40)), END_5, *v5(preferring(40), rates(40), **{"rewards/margins": 0.4}), END_5],
    ),
    field_case("short", "own: a rehearsal of two steps", [*v4([11.2, 11.2], [0.0, 2e-5]), END]),
    field_case("constant", "own: a constant rate where no schedule is announced", [*v4(falling(60), [1e-4] * 60), END]),
    field_case(
        "other-loss",
        "own: margins tell that IPO learned, whatever its loss",
        [*v4(preferring(60), rates(60), **{"rewards/margins": 0.09}), END],
    ),
    field_case(
        "grpo-at-zero",
        "huggingface/trl#3452",
        [*v4([0.0] * 60, rates(60), reward=1.7, reward_std=0.57, kl=0.0005), END],
    ),
    field_case(
        "grpo-rises", "huggingface/open-r1#239", [*v4([step / 500 for step in range(60)], rates(60), reward=0.9), END]
    ),
    field_case(
        "grpo-below-zero",
        "own: a mean of advantages has either sign",
        [*v4([-0.01 - step / 9000 for step in range(60)], rates(60), reward=0.9), END],
    ),
    field_case("noisy", "own: single losses are noisy", [*v4([*falling(59), 9.0], rates(60)), END]),
    field_case(
        "scaler",
        "JiaquanYe/TableMASTER-mmocr#32",
        [*v4(falling(59), rates(59)), "{'loss': 1.1, 'grad_norm': nan, 'learning_rate': 1e-06, 'epoch': 0.9}", END],
    ),
]

SOUND += [
    field_case(
        "swift",
        "modelscope/ms-swift#4146",
        [*map(str, [*swift(preferring(40), rates(40), 400, **{"rewards/margins": 0.4}), *swift_end(400)[:1]])],
    ),
    field_case(
        "swift-jsonl",
        "modelscope/ms-swift#4408",
        [*map(json.dumps, [*swift(falling(40), rates(40), 400), *swift_end(400)])],
    ),
    field_case(
        "swift-evaluated",
        "modelscope/ms-swift#4408",
        [
            *map(json.dumps, swift(falling(40), rates(40), 400)),
            json.dumps({"eval_loss": 0.3, "epoch": 3.0, "global_step/max_steps": "400/400", "elapsed_time": "4h"}),
            *map(json.dumps, swift_end(400)),
        ],
    ),
    field_case(
        "swift-texts",
        "own: its later versions write numbers as texts",
        [
            json.dumps({name: str(value) for name, value in one.items()})
            for one in [*swift(falling(40), rates(40), 400), *swift_end(400)[:1]]
        ],
    ),
    field_case(
        "llama-factory",
        "hiyouga/LlamaFactory#774",
        [
            *factory(falling(60), rates(60), 61),
            '{"current_steps": 61, "total_steps": 61, "loss": null, "eval_loss": null, "learning_rate": null}',
        ],
    ),
    field_case(
        "digits",
        "own: a rate printed with four digits follows its schedule as far as they tell",
        scheduled(fixed(whole_log(), 4, linear)),
    ),
]

TORCHTUNE = [
    field_case("sft", "meta-pytorch/torchtune#1358", tune(falling(60), rates(60)), True),
    field_case("from-0", "meta-pytorch/torchtune#640", tune(falling(60), rates(60), first=0), True),
    field_case(
        "behind-a-bar",
        "meta-pytorch/torchtune#2620",
        [
            f"1|{at}|Loss: {line[13:17]}:  83%|██▎ | 84/101 [22:38<04:33, 16.06s/it]{line}"
            for at, line in enumerate(tune(falling(60), rates(60)))
        ],
        True,
    ),
    field_case(
        "resumed",
        "own: it begins again at a checkpoint",
        [*tune(falling(60), rates(60)), *CRASH, *tune(falling(60)[30:], rates(60)[30:], first=31)],
        True,
    ),
    field_case(
        "dpo", "own: lora_dpo logs its margins", tune(preferring(60), rates(60), more="rewards/margins:0.3 "), True
    ),
    field_case("nan", "own: it diverged", tune([*falling(30), math.nan], [*rates(30), 1e-5]), False),
    field_case("still", "own: nothing is trainable", tune([1.25] * 60, rates(60)), False),
    field_case("rate-0", "own: a rate of 0", tune(falling(60), [0.0] * 60), False),
]


BROKEN = [
    field_case(
        "swift-nan",
        "own: a loss that is no number, as JSON writes it",
        [*map(json.dumps, [*swift([*falling(39), math.nan], rates(40), 400), *swift_end(400)])],
        "log_sft_losses",
    ),
    field_case(
        "swift-ln2",
        "own: a DPO that learned nothing",
        [*map(json.dumps, [*swift(LN_2[:40], rates(40), 400, **{"rewards/margins": 0.0}), *swift_end(400)])],
        "log_dpo_preferences",
    ),
    field_case(
        "llama-factory-rate",
        "own: a rate of 0",
        [*factory(falling(60), [0.0] * 60, 61), '{"current_steps": 61, "total_steps": 61, "percentage": 100.0}'],
        "log_sft_learning_rate",
    ),
    field_case(
        "digits-elsewhere",
        "own: four digits are enough to see another rate",
        scheduled(fixed(whole_log(), 4, lambda _: 2e-3)),
        "log_sft_learning_rate",
    ),
    field_case(
        "digits-0",
        "own: nobody prints a rate to one digit: it is 0",
        fixed(whole_log(), 1, lambda _: 0.0),
        "log_sft_learning_rate",
    ),
    field_case(
        "eval-nan",
        "own: an evaluation that is no number",
        [*v4(falling(60), rates(60)), "{'eval_loss': nan, 'eval_runtime': 2.0, 'epoch': 0.6}", END],
        "log_sft_evaluations",
    ),
    field_case(
        "crashed-after-resume",
        "own: a bare log whose second attempt crashed, too",
        [*v4(falling(60), rates(60)), *v4(falling(60)[30:], rates(60)[30:]), *CRASH],
        "log_has_no_error_lines",
    ),
    field_case(
        "ln2", "Yifan-Song793/ETO#14", [*v4(LN_2, rates(80), **{"rewards/margins": 0.0}), END], "log_dpo_preferences"
    ),
    field_case(
        "ln2-5",
        "huggingface/trl#1627",
        [*v5(LN_2, rates(80), **{"rewards/margins": 0.0}), END_5],
        "log_dpo_preferences",
    ),
    field_case(
        "ln2-contract",
        "own: the same in the contract's words",
        [*whole_log()[:-83], *step_lines("dpo", 1, 80, loss=0.6931), *whole_log()[-3:]],
        "log_dpo_preferences",
    ),
    field_case("zero-loss", "SY-Xuan/Pink#6", [*v4([0.0] * 40, rates(40)), END], "log_sft_moves"),
    field_case(
        "zero-gradient",
        "own: nothing is trainable",
        [*(line.replace("1.25", "0.0") for line in v4(falling(60), rates(60))), END],
        "log_sft_gradients",
    ),
    field_case(
        "inf", "jackaduma/Vicuna-LoRA-RLHF-PyTorch#11", [*v4([2.0, math.inf], [1e-4, 1e-4]), END], "log_sft_losses"
    ),
    field_case(
        "rewards-alike",
        "huggingface/trl#3857",
        [*v4([0.0] * 60, rates(60), reward=3.0, reward_std=0.0), END],
        "log_sft_rewards",
    ),
    field_case("rate-0", "own: DPO at a rate of 0", [*v4(falling(60), [0.0] * 60), END], "log_sft_learning_rate"),
    field_case("rate-nan", "own: a rate of nan", [*v4(falling(60), [math.nan] * 60), END], "log_sft_learning_rate"),
    field_case(
        "still",
        "own: the loss of SFT is the same to the last digit",
        [*v4([1.2345] * 250, rates(250)), END],
        "log_sft_moves",
    ),
    field_case(
        "gone",
        "own: labels are in the prompt",
        [*v4([1e-8 * (1 + at % 3) for at in range(60)], rates(60)), END],
        "log_sft_moves",
    ),
    field_case(
        "up",
        "own: it diverges below any absolute limit",
        [*v4([*falling(60), *[6.5 + at % 3 for at in range(20)]], rates(80)), END],
        "log_sft_converges",
    ),
    field_case("died", "own: a log that ends in the middle", [V2, PLAN, *step_lines("sft", 1, 120)], "log_ends_well"),
    field_case(
        "total",
        "own: the announced total changes in mid-run",
        [line.replace("/330 (6", "/3300 (6") for line in whole_log()],
        "log_announced_plan_holds",
    ),
    field_case(
        "reference",
        "own: the base model is the reference",
        [line.replace("first loss=0.69", "first loss=5.7") for line in whole_log()],
        "log_dpo_preferences",
    ),
    field_case(
        "error", "own: an error in a bare log", [*v4(falling(60), rates(60)), "Killed"], "log_has_no_error_lines"
    ),
    field_case(
        "warm",
        "own: a warm-up is announced, and the rate is constant",
        [whole_log()[0], PLAN, "[sft] SCHEDULE linear warmup_steps=33 lr=0.0001", *whole_log()[2:]],
        "log_sft_learning_rate",
    ),
]


def judged(path: Path, log: Iterable[str]) -> dict[str, Verdict]:
    path.write_text("\n".join(log) + "\n", encoding="utf-8")
    return {finding.id: finding.verdict for finding in judge(path)}


@pytest.mark.parametrize("log", SOUND)
def test_a_sound_log(tmp_path: Path, log: list[str]) -> None:
    found = judged(tmp_path / "training.log", log)
    assert len(found) > 5
    assert {name: verdict for name, verdict in found.items() if verdict is not Verdict.PASS} == {}


@pytest.mark.parametrize(("log", "claim"), BROKEN)
def test_a_training_that_does_not_train(tmp_path: Path, log: list[str], claim: str) -> None:
    assert judged(tmp_path / "training.log", log)[claim] is Verdict.FAIL


@pytest.mark.parametrize(("log", "sound"), TORCHTUNE)
def test_torchtune_tells_a_course_and_no_end(tmp_path: Path, log: list[str], sound: bool) -> None:
    found = judged(tmp_path / "log_1723844072.txt", log)
    assert found.pop("log_ends_well") is Verdict.UNKNOWN
    assert len(found) > 4
    assert (set(found.values()) == {Verdict.PASS}) is sound
    assert (Verdict.FAIL in found.values()) is not sound


@pytest.mark.parametrize(
    ("name", "lines", "kind"),
    [
        field_case("torchtune", "meta-pytorch/torchtune#1358", "log_1.txt", tune([2.0, 1.9], [1e-4] * 2), "log"),
        field_case(
            "swift", "modelscope/ms-swift#4408", "logging.jsonl", [*map(json.dumps, swift([2.0], [1.0], 9))], "log"
        ),
        field_case("rows", "own: rows of data", "rows.jsonl", ['{"prompt": "loss?", "completion": "b"}'], "dataset"),
        field_case(
            "rows-with-loss",
            "own: rows of data that were scored",
            "scored.jsonl",
            ['{"prompt": "What is it?", "completion": "b", "loss": 0.3, "epoch": 1}'],
            "dataset",
        ),
    ],
)
def test_what_a_trainer_wrote_is_known_whatever_its_name(
    tmp_path: Path, name: str, lines: list[str], kind: str
) -> None:
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert kind_of(tmp_path / name, expectation.of(None, "", None)) == kind


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda path: path.write_text("hello\n"), "log_tells_of_a_training"),
        (lambda path: path.mkdir(), "log_readable"),
        (lambda path: path.write_text("\n".join(v4([2.0, 1.9, 1.8], [0.0, 1e-4, 9e-5]))), "log_ends_well"),
        (
            lambda path: path.write_text("\n".join(v4([25.0, 20.0], [1e-6, 1e-6], **{"rewards/margins": 0.1}))),
            "log_dpo_preferences",
        ),
        (
            lambda path: path.write_text("\n".join(fixed(whole_log(), 4, lambda _: 2e-5)), encoding="utf-8"),
            "log_sft_learning_rate",
        ),
    ],
    ids=["no-log", "folder", "still-running", "ipo", "digits"],
)
def test_what_a_log_does_not_tell_is_unknown(tmp_path: Path, write: Callable[[Path], object], name: str) -> None:
    path = tmp_path / "training.log"
    write(path)
    assert {finding.id: finding.verdict for finding in judge(path)}[name] is Verdict.UNKNOWN
