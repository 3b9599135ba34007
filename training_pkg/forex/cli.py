"""The command line of the package: options in, stages run, the last line said, an exit status out."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import config, pipeline, refusals, runlog, smoke
from .errors import PackageError

STAGES = ("prepare", "sft", "dpo", "export", "evaluate", "ready", "all")


def main(arguments: Sequence[str], *, batch_size: int, load_base_model: Callable[..., Any]) -> int:
    """Run the stages asked for in the current directory.

    Returns 0 when they did what they promise, 1 when not, 130 when somebody interrupted them.
    """
    options = _parser().parse_args(arguments)
    _quiet()
    try:
        refusals.refuse_launchers(os.environ)
        settings = config.load(options.config, batch_size=batch_size, model=options.model)
        if options.smoke:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a rehearsal is of the code, not of the machine
            smoke.run(settings, load_base_model)
        else:
            with pipeline.sole_run():
                _run(options.stage, settings, load_base_model)
    except PackageError as error:
        runlog.failed(str(error))
        return 1
    except KeyboardInterrupt:
        runlog.failed("interrupted; the same command goes on from the newest whole checkpoint")
        return 130
    except Exception as error:  # noqa: BLE001 - the end of the program: said in the log, then exit status 1
        # The last line of a failed run is a promise to whoever reads the log; the traceback goes before it.
        traceback.print_exc()
        runlog.failed(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _run(stage: str, settings: config.Config, load_base_model: Callable[..., Any]) -> None:
    data = pipeline.prepare(settings)
    if stage == "prepare":
        return
    refusals.refuse_torch(_installed("torch"))
    run = pipeline.Pipeline(settings, load_base_model, data)
    if stage == "ready":
        run.run_ready()
    if stage in {"sft", "all"}:
        run.run_sft()
    if stage in {"dpo", "all"}:
        run.run_dpo()
    if stage in {"export", "all"}:
        run.run_export()
        runlog.complete()
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
