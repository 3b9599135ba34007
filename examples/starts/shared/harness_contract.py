"""Log lines, run.json and MANIFEST.json by which gold-standard-harness follows a training: one file beside your script.

For any trainer of transformers or TRL; what it writes is described in docs/contract.md of the harness::

    with Contract(base="org/model", data={"examples": "data/train.jsonl"}) as contract:
        trainer = SFTTrainer(model=model, args=args, train_dataset=rows, peft_config=lora)
        contract.train("sft", trainer)              # goes on from the newest whole checkpoint
        trainer.save_model("models/output/adapter")
        contract.finish("models/output/adapter")    # MANIFEST.json, then TRAINING COMPLETE

Trainers that run after the first one are announced with it, by ``Contract(steps={"dpo": 80}, ...)``. Who calls
``trainer.train`` himself gives the trainer ``contract.callback("sft")`` and resumes from
``contract.newest("sft", output_dir, below=steps)``. Only the process of rank 0 writes and prints.

Nothing of the harness is imported. Needs Python 3.9 and transformers 4.40 or newer.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import sys
import time
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from transformers import ProgressCallback, TrainerCallback

FIRST = os.environ.get("RANK", "0") == "0"
"""True in the process that writes and prints: the only one, or the one of rank 0."""

_VERSIONS = "torch transformers trl peft accelerate datasets tokenizers safetensors bitsandbytes unsloth axolotl"
_ARCHIVES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
_PLANNED = ["batch_size", "checkpoint_every", "lora_r", "lora_alpha", "dtype", "world_size", "device_map", "devices"]
_WEIGHTS = {
    "adapter_model.safetensors": "adapter_config.json",
    "model.safetensors": "config.json",
    "model.safetensors.index.json": "config.json",
}
"""Files of a checkpoint's weights, and what says what they are."""


class Contract:
    """A run of the training script: it announces itself, follows its trainers, and says how it ended.

    ``data``: the JSON Lines file of each kind of rows; of another format, the file and its number of rows. ``steps``:
    optimizer steps of the trainers that run after the first. ``proof_line``: the line that the job file demands.
    """

    def __init__(
        self,
        *,
        base: str,
        data: dict[str, str | tuple[str, int]] | None = None,
        steps: dict[str, int] | None = None,
        proof_line: str | None = None,
        device_map: str = "auto",
    ) -> None:
        self.base, self.device_map, self.proof_line = base, device_map, proof_line
        self.data = {kind: _rows(*((told,) if isinstance(told, str) else told)) for kind, told in (data or {}).items()}
        self.later = dict(steps or {})
        self.announced: dict[str, int] = {}
        self.reached: dict[str, int] = {}
        self.folders: list[Path] = []
        self.finished = False
        self.below_a_bar = False

    def __enter__(self) -> Contract:  # noqa: PYI034 - Python 3.9 has no Self
        if FIRST:
            Path("MANIFEST.json").unlink(missing_ok=True)  # it says that all is done
        if self.proof_line:
            self.say(self.proof_line)
        for kind, file in self.data.items():
            self.say(f"DATA {kind} rows={file['rows']} built={file['built']} sha256={file['sha256']}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = error is None or (isinstance(error, SystemExit) and not error.code)
        if ended and self.finished:
            return
        reason = "contract.finish() was never called"
        if error is not None and not ended:
            traceback.print_exception(kind, error, trace)
            sys.stderr.flush()
            reason = f"{type(error).__name__}: {error}"
        self.say(f"TRAINING FAILED: {reason}")
        raise SystemExit(1)

    def train(self, name: str, trainer: Any) -> None:
        """Train from the newest whole checkpoint; where that is the last one, only its weights are loaded."""
        args = trainer.args
        trainer.remove_callback(ProgressCallback)
        args.disable_tqdm = True
        path = self.newest(name, args.output_dir)
        if path is None:
            trainer.add_callback(self.callback(name))
            trainer.train()
            return
        state = json.loads(Path(path, "trainer_state.json").read_text(encoding="utf-8"))
        total = args.max_steps if args.max_steps > 0 else state["max_steps"]
        if state["global_step"] < total:
            trainer.add_callback(self.callback(name))
            trainer.train(resume_from_checkpoint=path)
            return
        self.begin(name, trainer.model, args, total, state["global_step"])
        trainer._load_from_checkpoint(path)  # noqa: SLF001 - train() may add a step to those that are done
        self.complete(name, total)

    def callback(self, name: str) -> TrainerCallback:
        """The callback that writes the lines of a trainer."""
        return _Lines(self, name)

    def newest(self, name: str, output_dir: str, *, below: float = math.inf) -> str | None:
        """The newest whole checkpoint of a trainer, of a step ``below`` another; those passed over are named.

        Who calls ``trainer.train`` himself gives its last step: from there it may go one step too far.
        """
        found = {
            int(path.name[11:]): path for path in Path(output_dir).glob("checkpoint-*") if path.name[11:].isdecimal()
        }
        for step in sorted((step for step in found if step < below), reverse=True):
            try:
                problem = _problem(found[step], step)
            except Exception as error:  # noqa: BLE001 - each of four readers has errors of its own
                problem = f"{type(error).__name__}: {error}"
            if problem is None:
                return str(found[step])
            self.say(f"[{name}] PASSED OVER {_relative(found[step])}: {problem}")
        return None

    def say(self, line: str) -> None:
        """Print a line of the log; a bar has no line feed, and the line would hang on it."""
        if self.below_a_bar and FIRST:
            print(flush=True)
        say(line)

    def begin(self, name: str, model: Any, args: Any, total: int, done: int) -> None:
        """Announce the whole run with its first trainer, and hold later ones to that. ``done``: steps before it."""
        announced = self.announced or {name: total, **self.later}
        if announced.get(name) != total:
            raise ValueError(
                f"{name} has {total} steps, announced were {announced.get(name)}: Contract(steps={{{name!r}: {total}}})"
            )
        if not self.announced:
            self.announced = announced
            run = _run(self, model, args)
            _write("run.json", run)
            shown: dict[str, Any] = {f"{trainer}_steps": count for trainer, count in announced.items()}
            told = {**run, "lora_r": run["lora"]["r"], "lora_alpha": f"{run['lora']['alpha']:g}"}
            told["devices"] = ",".join(run["devices"])
            shown |= {field: told[field] for field in _PLANNED}
            self.say("PLAN " + " ".join(f"{field}={value}" for field, value in shown.items()))
        self.folders.append(Path(args.output_dir))
        if done:
            self.say(f"[{name}] RESUME from {_relative(Path(args.output_dir))}/checkpoint-{done} at step {done}")

    def complete(self, name: str, step: int) -> None:
        """A trainer came to its end."""
        self.reached[name] = step
        self.say(f"[{name}] COMPLETE {step}/{self.announced[name]} steps")

    def finish(self, *outputs: str) -> None:
        """Write MANIFEST.json with every file of the outputs (folders or files), and say that all is done."""
        if not self.announced or self.reached != self.announced:
            raise RuntimeError(f"steps done: {self.reached or 'none'}, announced: {self.announced or 'none'}")
        kinds = {Path("run.json"): "run"}
        for folder in self.folders:
            kinds |= dict.fromkeys(sorted(folder.glob("checkpoint-*/trainer_state.json")), "trainer_state")
        for output in map(Path, outputs):
            files = sorted(_files(output))
            if not files:
                raise FileNotFoundError(f"{output} holds nothing that could be brought home")
            adapter = (output / "adapter_config.json").is_file()
            kinds |= {file: _kind(file, adapter) for file in files}
        if FIRST:
            _write(
                "MANIFEST.json",
                {"contract": 1, "steps": self.reached, "files": [_entry(*one) for one in kinds.items()]},
            )
        self.finished = True
        self.say("TRAINING COMPLETE")


class _Lines(TrainerCallback):  # type: ignore[misc]
    """Lines of one trainer, each when it is true: a step when it is done, a checkpoint when it is saved."""

    def __init__(self, contract: Contract, name: str) -> None:
        self.contract, self.name = contract, name
        self.since, self.at = 0.0, 0

    def on_train_begin(self, args: Any, state: Any, _control: Any, **others: Any) -> None:
        args.logging_nan_inf_filter = False  # it logs another loss where there was none
        self.contract.below_a_bar = not args.disable_tqdm
        self.contract.begin(self.name, others["model"], args, state.max_steps, state.global_step)
        if _is_of_transformers(others.get("lr_scheduler")):
            kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
            warmup = args.get_warmup_steps(state.max_steps)
            self.contract.say(f"[{self.name}] SCHEDULE {kind} warmup_steps={warmup} lr={args.learning_rate:.6g}")
        self.since, self.at = time.monotonic(), state.global_step

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
        control.should_log = True
        control.should_save = control.should_save or state.global_step >= state.max_steps
        return control

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        step, total = state.global_step, state.max_steps
        if not logs or "loss" not in logs or step <= self.at:
            return
        loss, seconds = float(logs["loss"]), (time.monotonic() - self.since) / (step - self.at)
        if self.name == "dpo" and step == 1:
            self.contract.say(f"[dpo] first loss={loss:.6f}")
        self.contract.say(
            f"[{self.name}] step {step}/{total} ({100 * step // total}%) loss={loss:.6g}"
            f" lr={float(logs.get('learning_rate', 0)):.6g} s/step={seconds:.3f}"
        )
        self.since, self.at = time.monotonic(), step

    def on_evaluate(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        self.since = time.monotonic()

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        self.contract.say(
            f"[{self.name}] Saved checkpoint {_relative(Path(args.output_dir))}/checkpoint-{state.global_step}"
        )
        self.since = time.monotonic()

    def on_train_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self.contract.complete(self.name, state.global_step)


def say(line: str) -> None:
    """Print a line of the log now, in one piece."""
    if FIRST:
        print(" ".join(line.split()), flush=True)


def ready(base: str) -> None:
    """Prove before the training that configuration, tokenizer and weights of the base model are there, and say so.

    Weights of the hub are fetched for it, so that the training finds them.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415

    AutoConfig.from_pretrained(base)
    AutoTokenizer.from_pretrained(base)
    wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
    folder = base if Path(base).is_dir() else snapshot_download(base, allow_patterns=wanted)
    size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    if not size:
        raise FileNotFoundError(f"{base} has no weights in safetensors")
    say(f"READY base_model {base} bytes={size}")


def _run(contract: Contract, model: Any, args: Any) -> dict[str, Any]:
    """What run.json says."""
    if getattr(args.save_strategy, "value", args.save_strategy) != "steps":
        raise ValueError(f"save_strategy is {args.save_strategy}: save_strategy='steps' with save_steps is needed")
    first = next(iter(contract.announced.values()))
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    heads = config.num_attention_heads
    shape = {name: getattr(config, name, None) for name in ("hidden_size", "num_hidden_layers", "intermediate_size")}
    shape |= {
        "num_attention_heads": heads,
        "num_key_value_heads": getattr(config, "num_key_value_heads", None) or heads,
    }
    shape |= {"vocab_size": config.vocab_size, "tie_word_embeddings": bool(model.config.tie_word_embeddings)}
    shape["head_dim"] = getattr(config, "head_dim", None) or config.hidden_size // heads
    shape["architecture"] = (model.config.architectures or [type(model).__name__])[0]
    adapters = getattr(model, "peft_config", None) or {}
    lora = adapters.get(getattr(model, "active_adapter", "default"), next(iter(adapters.values()), None))
    targets = getattr(lora, "target_modules", None) or []
    return {
        "contract": 1,
        "model": {"name": contract.base, "config": shape},
        "batch_size": args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "device_map": contract.device_map,
        "devices": sorted({str(one.device) for one in model.parameters()}),
        "world_size": args.world_size,
        "dtype": str(model.get_input_embeddings().weight.dtype).removeprefix("torch."),
        "lora": {
            "r": getattr(lora, "r", 0),
            "alpha": getattr(lora, "lora_alpha", 0),
            "dropout": getattr(lora, "lora_dropout", 0.0),
            "target_modules": targets if isinstance(targets, str) else sorted(targets),
        },
        "steps": contract.announced,
        "checkpoint_every": int(args.save_steps if args.save_steps >= 1 else math.ceil(first * args.save_steps)),
        "max_length": getattr(args, "max_length", None) or getattr(args, "max_seq_length", None),
        "quantization": [],
        "seed": args.seed,
        "data": contract.data,
        "versions": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _VERSIONS.split():
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _is_of_transformers(scheduler: Any) -> bool:
    """True for a schedule that transformers made of the arguments, so that they tell its course."""
    scheduler = getattr(scheduler, "scheduler", scheduler)  # accelerate wraps it
    course = (getattr(scheduler, "lr_lambdas", None) or [None])[0]
    return getattr(getattr(course, "func", course), "__module__", "") == "transformers.optimization"


def _rows(path: str, rows: int | None = None) -> dict[str, Any]:
    """A data file as it is announced; ``built`` counts the rows of which ``built_by`` says that a program made them."""
    lines = [] if rows is not None else [line for line in Path(path).read_bytes().splitlines() if line.strip()]
    built = sum(b'"built_by"' in line and "built_by" in json.loads(line) for line in lines)
    return {"path": path, "rows": len(lines) if rows is None else rows, "built": built, "sha256": _sha256(Path(path))}


def _problem(folder: Path, step: int) -> str | None:
    """Reason for which nothing can go on from a checkpoint; None when every file is there and whole."""
    from safetensors import safe_open  # noqa: PLC0415

    there = {path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink()}
    weights = next((name for name in _WEIGHTS if name in there), None)
    if weights is None:
        return "it holds no weights in safetensors"
    for name in (_WEIGHTS[weights], "trainer_state.json", *_ARCHIVES):
        if name not in there and not (name == "rng_state.pth" and "rng_state_0.pth" in there):
            return f"{name} is missing"
    for name in set(_ARCHIVES) & there:
        with zipfile.ZipFile(folder / name) as archive:
            if not any(entry.endswith("/data.pkl") for entry in archive.namelist()) or archive.testzip():
                return f"{name} is damaged"
    json.loads((folder / _WEIGHTS[weights]).read_text(encoding="utf-8"))
    told = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    if type(told) is not int or told != step:
        return f"trainer_state.json is of step {told}"
    index = weights.endswith(".json") and json.loads((folder / weights).read_text(encoding="utf-8"))["weight_map"]
    learned = False
    for name in sorted(set(index.values())) if index else [weights]:
        with safe_open(str(folder / name), "pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no dict
                tensor = file.get_tensor(key)
                if not tensor.isfinite().all():
                    return f"{key} holds NaN or infinity"
                learned = learned or bool(tensor.any())
    return None if learned else f"{weights} is all zeros"


def _files(output: Path) -> Iterator[Path]:
    """The files of an output; checkpoints and hidden files that lie there are not of it."""
    for path in [output] if output.is_file() else output.rglob("*"):
        parts = path.relative_to(output).parts
        if (
            path.is_file()
            and not any(part.startswith(".") for part in parts)
            and "checkpoint-" not in "".join(parts[:1])
        ):
            yield path


def _kind(path: Path, adapter: bool) -> str:
    special = {".gguf": "gguf"}.get(path.suffix) or ("modelfile" if path.name == "Modelfile" else None)
    return special or ("adapter" if adapter else "model")


def _entry(path: Path, kind: str) -> dict[str, Any]:
    return {"path": _relative(path), "bytes": path.stat().st_size, "sha256": _sha256(path), "kind": kind}


def _relative(path: Path) -> str:
    """A path as the package's directory sees it."""
    return Path(os.path.relpath(path)).as_posix()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _write(name: str, value: Any) -> None:
    """A JSON file, whole or not at all."""
    if not FIRST:
        return
    new = Path(f"{name}.new")
    with new.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    new.replace(name)
