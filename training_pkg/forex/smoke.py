"""A rehearsal in seconds on the CPU: the same stages on a tiny model, killed in spirit and gone on from.

It trains two steps of each kind in a directory of its own, takes the second checkpoint away, runs
again, and wants the same adapter and the same GGUF to the byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import dataset, durable, pipeline, runlog
from .config import BUILT_MODEL, Config, Model, Shape
from .errors import TrainingDefect

STEPS = 2

_LONGER = 8
"""A vocabulary of some hundred tokens needs several times as many as the real one: a row that fits there fits here."""


def settings(config: Config, data: Path) -> Config:
    """The run's own configuration with a tiny model, two steps a stage and a checkpoint at each."""
    return dataclasses.replace(
        config,
        model=Model(name=BUILT_MODEL, built=Shape(), max_length=_LONGER * config.model.max_length),
        sft=dataclasses.replace(config.sft, max_steps=STEPS),
        dpo=dataclasses.replace(config.dpo, max_steps=STEPS),
        run=dataclasses.replace(config.run, checkpoint_every=1),
        data=dataclasses.replace(config.data, folder=str(data)),
        export=dataclasses.replace(config.export, quantizations=("Q8_0",)),
    )


def run(config: Config, load_base_model: Callable[..., Any]) -> None:
    """Raises a PackageError when any stage does not do what it promises."""
    own = Path(config.data.folder).absolute()
    with tempfile.TemporaryDirectory(prefix="smoke-") as directory, contextlib.chdir(directory):
        tiny = settings(config, own if own.is_dir() else Path(directory) / config.data.folder)
        first = _outputs(tiny, load_base_model)
        shutil.rmtree(pipeline.OUTPUT / "sft" / f"checkpoint-{STEPS}")
        shutil.rmtree(pipeline.OUTPUT / "dpo")
        pipeline.MANIFEST.unlink()
        second = _outputs(tiny, load_base_model)
        if changed := [name for name, digest in first.items() if second[name] != digest]:
            raise TrainingDefect(f"a run that went on from a checkpoint gave another {', '.join(changed)}")
    end = f"COMPLETE: {STEPS} + {STEPS} steps, resumed, exported, verified; the same bytes twice"
    runlog.say(runlog.NOTE, stage="smoke", text=end)


def _outputs(config: Config, load_base_model: Callable[..., Any]) -> dict[str, str]:
    """Digests of what one run leaves."""
    made = pipeline.Pipeline(config, load_base_model, dataset.prepare(config))
    made.run_sft()
    made.run_dpo()
    made.run_export()
    return {
        "adapter": durable.sha256_of(pipeline.ADAPTER / "adapter_model.safetensors"),
        "GGUF": durable.sha256_of(pipeline.FINAL / f"{config.export.name}.Q8_0.gguf"),
    }
