"""The stages in their order: prepare, sft, dpo, export. Each goes on from what is whole on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import base, builder, durable, rates, rows, runlog
from .config import Config, total_steps
from .errors import PackageError

if TYPE_CHECKING:
    from . import training

OUTPUT = Path("models/output")
ADAPTER = OUTPUT / "adapter"
FINAL = OUTPUT / "final"
EXTRA = OUTPUT / "extra"
MANIFEST = Path("MANIFEST.json")
STAGES = ("prepare", "sft", "dpo", "export", "all")


@dataclass(frozen=True, slots=True)
class Data:
    """What was read from the data folder."""

    features: rows.DataFile[rows.Example]
    scenarios: rows.DataFile[rows.Example]
    preferences: rows.DataFile[rows.Preference]

    @property
    def examples(self) -> list[rows.Example]:
        """Every SFT row, features first."""
        return [*self.features.rows, *self.scenarios.rows]


def prepare(config: Config) -> Data:
    """Read the data, building it first when the folder is not there; the log says how many rows there are.

    Files that are there are the user's and are taken as they are. Raises DataDefect.
    """
    folder = Path(config.data.folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if not folder.exists():
        partial = folder.with_name(folder.name + durable.PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        builder.build(partial, history=rates.default_file(), eval_from=config.data.eval_from, seed=config.data.seed)
        partial.rename(folder)
    data = Data(
        rows.read_examples(folder / builder.FEATURE_FILE),
        rows.read_examples(folder / builder.SCENARIO_FILE),
        rows.read_preferences(folder / builder.PREFERENCE_FILE),
    )
    runlog.integration(len(data.examples), len(data.preferences.rows))
    return data


@dataclass
class Pipeline:
    """One run in the current directory."""

    config: Config
    load_base_model: Callable[..., Any]
    data: Data

    def __post_init__(self) -> None:
        self._announced = False

    @cached_property
    def base(self) -> Path:
        """The base model's directory."""
        texts = (text for row in self.data.examples for text in (row.prompt, row.completion))
        return base.directory(self.config.model, texts, self.config.run.seed)

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's tokenizer."""
        from transformers import AutoTokenizer  # noqa: PLC0415 - slow to import, and preparing data needs none

        return AutoTokenizer.from_pretrained(str(self.base))

    @cached_property
    def sft(self) -> training.Stage:
        """The supervised stage."""
        return self._stage("sft", len(self.data.examples), self.config.sft.epochs, self.config.sft.max_steps)

    @cached_property
    def dpo(self) -> training.Stage:
        """The preference stage."""
        return self._stage("dpo", len(self.data.preferences.rows), self.config.dpo.epochs, self.config.dpo.max_steps)

    def run_sft(self) -> Path:
        """The last SFT checkpoint, trained now or before."""
        if (done := self._finished(self.sft)) is not None:
            return done
        from . import sft  # noqa: PLC0415 - imports torch

        return sft.train(self.config, self.sft, self._loaded(), self.tokenizer, self.data.examples)

    def run_dpo(self) -> Path:
        """The last DPO checkpoint, trained now or before from the last SFT checkpoint."""
        start = self.sft.final_checkpoint()
        if start is None:
            raise PackageError("there is no finished SFT adapter to start from; run --stage sft first")
        if (done := self._finished(self.dpo)) is not None:
            return done
        from . import dpo  # noqa: PLC0415 - imports torch

        rows_ = list(self.data.preferences.rows)
        return dpo.train(self.config, self.dpo, self._loaded(), start, self.tokenizer, rows_)

    def run_export(self) -> None:
        """Final adapter, GGUF, Modelfile and the manifest, written last."""
        from . import announce, export, manifest  # noqa: PLC0415 - imports torch

        last = self.dpo.final_checkpoint()
        sft_last = self.sft.final_checkpoint()
        if last is None or sft_last is None:
            raise PackageError("the training is not finished; run --stage all")
        self._publish_adapter(last)
        source = export.Source.of(self.base, ADAPTER, self.tokenizer)
        files = []
        for at, quantization in enumerate(self.config.export.quantizations):
            target = (FINAL if at == 0 else EXTRA) / f"{self.config.export.name}.{quantization}.gguf"
            written = export.write(source, target, quantization=quantization, name=self.config.export.name)
            runlog.gguf(target, written.size, written.sha256)
            files.append({"path": target.as_posix(), "bytes": written.size, "sha256": written.sha256, "kind": "gguf"})
        modelfile = FINAL / "Modelfile"
        durable.write_bytes(
            modelfile, manifest.modelfile(f"{self.config.export.name}.{self.config.export.quantizations[0]}.gguf").encode()
        )
        files += [manifest.entry(path, "adapter") for path in sorted(ADAPTER.iterdir())]
        files += [manifest.entry(folder / "trainer_state.json", "trainer_state") for folder in (sft_last, last)]
        files += [manifest.entry(modelfile, "modelfile"), manifest.entry(announce.RUN_FILE, "run")]
        manifest.write(MANIFEST, steps={"sft": self.sft.total, "dpo": self.dpo.total}, files=files)

    def _stage(self, name: str, count: int, epochs: float, cap: int) -> training.Stage:
        from . import training  # noqa: PLC0415 - imports torch

        return training.Stage(name, OUTPUT / name, total_steps(count, epochs, self.config.batch_size, cap))

    def _finished(self, stage: training.Stage) -> Path | None:
        """The stage's last checkpoint when nothing is left to train."""
        done = stage.final_checkpoint()
        if done is not None:
            runlog.stage_complete(stage.name, stage.total, stage.total)
        return done

    def _loaded(self) -> Any:
        """The base model on its devices; the first load writes run.json and prints the plan."""
        from . import announce, training  # noqa: PLC0415 - imports torch

        model = self.load_base_model(str(self.base), training.compute_dtype(), self.config.model.attention)
        if not self._announced:
            announce.announce(
                self.config,
                model,
                base=self.base,
                stages=(self.sft, self.dpo),
                data={
                    "features": self.data.features,
                    "scenarios": self.data.scenarios,
                    "pairs": self.data.preferences,
                },
            )
            self._announced = True
        return model

    def _publish_adapter(self, checkpoint: Path) -> None:
        """The last checkpoint's adapter and the tokenizer, as one folder that is whole or absent."""
        partial = ADAPTER.with_name(ADAPTER.name + durable.PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copyfile(checkpoint / name, partial / name)
        self.tokenizer.save_pretrained(partial)
        shutil.rmtree(ADAPTER, ignore_errors=True)
        partial.rename(ADAPTER)
