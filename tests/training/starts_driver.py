"""Trains with the real TRL and transformers and the contract's one file, each attempt a fork that may be killed.

``starts_driver.py ATTEMPTS``, in a directory of runs. An attempt is ``[run, train, point, rank]``: the run's directory,
the function below that trains, and the moment of its death. That is null, or the beginning of a line of the log that is
the last thing said, or ``call:<attribute of Trainer>:<n>``, before whose n-th call the process dies. What the trainers
themselves recorded is left in ``history.json``. The libraries are imported once.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
import transformers
import trl

sys.path.insert(0, ".")
harness_contract: Any = importlib.import_module("harness_contract")
tiny_model: Any = importlib.import_module("tiny_model")

HISTORY: dict[str, Any] = {}
ROWS = [
    {"prompt": f"Count {number}.", "completion": f" {number} and {number + 1}.", "text": f"Count {number}: {number}."}
    for number in range(24)
]
STEPS, EVERY = 6, 2
USUAL = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "save_strategy": "steps",
    "save_steps": EVERY,
    "save_total_limit": 3,
    "report_to": "none",
    "learning_rate": 1e-2,
    "use_cpu": True,
    "seed": 5,
}
LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


def prepare() -> None:
    """Rows and a base model."""
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    tiny_model.make("tiny", "rows.jsonl")


def model() -> Any:
    transformers.set_seed(5)
    return transformers.AutoModelForCausalLM.from_pretrained("tiny", dtype=torch.float32)


def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained("tiny")


def sft(base: Any, **args: Any) -> Any:
    options = {"max_steps": STEPS, "bf16": False, "max_length": 64, **USUAL, **args}
    return trl.SFTTrainer(
        model=base,
        args=trl.SFTConfig(output_dir="models/output/sft", **options),
        train_dataset=datasets.Dataset.from_list([{k: row[k] for k in ("prompt", "completion")} for row in ROWS]),
        processing_class=tokenizer(),
        peft_config=peft.LoraConfig(**LORA),
    )


def two(contract_steps: int = 4) -> None:
    """SFT, then DPO of the same adapter."""
    data = {"examples": "rows.jsonl", "pairs": ("rows.jsonl", 7)}
    with harness_contract.Contract(
        base="tiny", data=data, steps={"dpo": contract_steps}, proof_line="MY DATA: 24 SFT rows"
    ) as contract:
        first = sft(model(), lr_scheduler_type="linear", warmup_steps=2)
        contract.train("sft", first)
        HISTORY["sft"] = first.state.log_history
        pairs = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": " None."} for row in ROWS]
        second = trl.DPOTrainer(
            model=first.model,
            args=trl.DPOConfig(output_dir="models/output/dpo", max_steps=4, bf16=False, max_length=64, **USUAL),
            train_dataset=datasets.Dataset.from_list(pairs),
            processing_class=tokenizer(),
        )
        contract.train("dpo", second)
        HISTORY["dpo"] = second.state.log_history
        second.save_model("models/output/adapter")
        contract.finish("models/output/adapter")


def plain(**args: Any) -> None:
    """Every weight, by the plain Trainer and epochs, with an evaluation between; the callback alone is used."""
    with harness_contract.Contract(base="tiny", device_map="None") as contract:
        encoded = [tokenizer()(row["text"]) for row in ROWS]
        options = {
            "num_train_epochs": 1,
            "eval_strategy": "steps",
            "eval_steps": 3,
            "disable_tqdm": True,
            **USUAL,
            **args,
        }
        trainer = transformers.Trainer(
            model=model(),
            args=transformers.TrainingArguments(output_dir="models/output/sft", **options),
            train_dataset=encoded,
            eval_dataset=encoded[:4],
            data_collator=transformers.DataCollatorForLanguageModeling(tokenizer(), mlm=False),
            callbacks=[contract.callback("sft")],
        )
        trainer.train(resume_from_checkpoint=contract.newest("sft", "models/output/sft", below=STEPS))
        HISTORY["sft"] = trainer.state.log_history
        trainer.save_model("models/output/final")
        contract.finish("models/output/final")


def with_a_bar() -> None:
    """The callback alone, below the trainer's progress bar."""
    plain(disable_tqdm=False)


def diverging() -> None:
    """A loss that is no number from the second step on."""
    plain(learning_rate=1e30, max_grad_norm=0)


def of_another_length() -> None:
    """More steps of the second trainer are announced than it does."""
    two(contract_steps=5)


def by_epochs() -> None:
    """Checkpoints at the end of an epoch alone."""
    plain(save_strategy="epoch", eval_strategy="no")


def unfinished() -> None:
    """The script ends without finish()."""
    with harness_contract.Contract(base="tiny"):
        sys.exit(0)


def ready() -> None:
    """The base model is there."""
    harness_contract.ready("tiny")


def die() -> None:
    """End this process as a lost machine would."""
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Put the kill in place."""
    if not point.startswith("call:"):
        say = harness_contract.say

        def said(line: str) -> None:
            say(line)
            if line.startswith(point):
                die()

        harness_contract.say = said
        return
    _, name, number = point.split(":")
    whole, left = getattr(transformers.Trainer, name), [int(number)]

    def called(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            die()
        return whole(*args, **options)

    setattr(transformers.Trainer, name, called)


def attempt(run: str, train: str, point: str | None, rank: int) -> dict[str, Any]:
    """One attempt in a child process; the log of all attempts of a run is ``training.log``."""
    folder = Path(run)
    if not folder.exists():
        folder.mkdir()
        shutil.copytree("tiny", folder / "tiny")
        shutil.copy("rows.jsonl", folder)
        (folder / "MANIFEST.json").write_text("{}", encoding="utf-8")  # of a training that is over
    log = folder / "training.log"
    before = log.stat().st_size if log.exists() else 0
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        out = os.open("training.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        harness_contract.FIRST = rank == 0
        if point is not None:
            arm(point)
        os._exit(ended(globals()[train]))
    _, status = os.waitpid(child, 0)
    said = log.read_bytes()[before:].decode("utf-8", "replace")
    return {"run": run, "status": os.waitstatus_to_exitcode(status), "log": said}


def ended(train: Callable[[], None]) -> int:
    """The exit status of a training."""
    status = 0
    try:
        train()
    except SystemExit as error:
        status = int(error.code or 0)
    except Exception:  # noqa: BLE001 - what nobody expected is shown
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    Path("history.json").write_text(json.dumps(HISTORY), encoding="utf-8")
    return status


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _ = trl.SFTTrainer, trl.DPOTrainer
    prepare()
    gc.freeze()  # a fork that looked for garbage among the libraries would copy them
    ends = [attempt(*told) for told in json.loads(sys.argv[1])]
    Path("attempts.json").write_text(json.dumps(ends), encoding="utf-8")
