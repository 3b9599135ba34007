"""The stages in their order: sft, dpo, export. Each goes on from what is whole on the disk."""

from __future__ import annotations

import contextlib
import gc
import inspect
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers.utils import logging

from . import (
    announce,
    base,
    builder,
    chat,
    disk,
    durable,
    evaluate,
    export,
    loading,
    manifest,
    ranks,
    refusals,
    rows,
    runlog,
    trackers,
    training,
)
from .config import Config, Model, Shape, total_steps
from .dataset import Data
from .errors import PackageError, Refused

OUTPUT = Path("models/output")
ADAPTER = OUTPUT / "adapter"
FINAL = OUTPUT / "final"
EXTRA = OUTPUT / "extra"
MANIFEST = Path("MANIFEST.json")


class Pipeline:
    """One run in the current directory; raises Refused when another run's checkpoints lie there."""

    def __init__(self, config: Config, load_base_model: Callable[..., Any], data: Data) -> None:
        logging.disable_progress_bar()  # a bar's carriage returns have no place in the log
        logging.set_verbosity_error()  # whoever imported it first, and whatever level it was given then
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        self._config, self._load, self._data = config, load_base_model, data
        self._announced = False
        rows = len(data.examples), len(data.pairs.rows)
        self.sft = training.Stage("sft", OUTPUT / "sft", self._total("sft", rows[0], config.sft))
        self.dpo = training.Stage("dpo", OUTPUT / "dpo", self._total("dpo", rows[1], config.dpo))
        self._stages = self.sft, self.dpo
        self._identity = announce.identity(config, self._stages, rows, data.files)
        announce.refuse_another(self._identity, self._stages)
        self._refuse_stray_ggufs()

    def run_sft(self) -> None:
        """Train a new adapter to the last SFT step, unless it was trained before."""
        if self._finished(self.sft):
            return
        with loading.undisturbed():
            from . import trainers  # noqa: PLC0415 - loads trl, and only a training needs it

        model = self._loaded()
        tracked_by = self._config.run.trackers
        training.run(trainers.sft(self._config, self.sft, model, self.chat, self._data.examples), self.sft, tracked_by)

    def run_dpo(self) -> None:
        """Train the last SFT checkpoint's adapter to the last DPO step, unless it was trained before."""
        start = self.sft.final_checkpoint()
        if start is None:
            raise PackageError("there is no finished SFT adapter to start from; run --stage sft first")
        if self._finished(self.dpo):
            return
        with loading.undisturbed():
            from . import trainers  # noqa: PLC0415 - see above

        model, pairs = self._loaded(), self._data.pairs.rows
        tracked_by = self._config.run.trackers
        training.run(trainers.dpo(self._config, self.dpo, model, self.chat, pairs, start=start), self.dpo, tracked_by)

    def run_export(self) -> None:
        """Final adapter, GGUF, Modelfile and the manifest, written last; nothing when all of it is there already."""
        targets = self._targets()
        sft_last, dpo_last = self.sft.final_checkpoint(), self.dpo.final_checkpoint()
        if sft_last is None or dpo_last is None:
            raise PackageError("the training is not finished; run --stage all")
        if not self._announced:
            announce.announce_again()
        if manifest.holds(MANIFEST, list(targets.values())):
            runlog.say(runlog.NOTE, stage="export", text=f"{MANIFEST} holds: every output is there and whole")
            return
        MANIFEST.unlink(missing_ok=True)
        self._publish_adapter(dpo_last)
        for folder in (FINAL, EXTRA):
            for killed in folder.glob(f"*.gguf{durable.PARTIAL}"):  # by an export that may have had other settings
                killed.unlink()
        source = export.Source.of(self.base, ADAPTER, self.chat)
        needed = disk.needed(self._config, source.config, self.base, self._stages)
        announce.announce_export(self._config, self._identity, disk_needed=needed)
        files = []
        for quantization, target in targets.items():
            written = export.write(source, target, quantization=quantization, name=self._config.export.name)
            runlog.say(runlog.GGUF, path=target.as_posix(), size=written.size, digest=written.sha256)
            files.append({"path": target.as_posix(), "bytes": written.size, "sha256": written.sha256, "kind": "gguf"})
        modelfile = FINAL / "Modelfile"
        durable.write_bytes(modelfile, manifest.modelfile(next(iter(targets.values())).name, self.chat.turns).encode())
        files += [manifest.entry(path, "adapter") for path in sorted(ADAPTER.iterdir())]
        files += [manifest.entry(folder / "trainer_state.json", "trainer_state") for folder in (sft_last, dpo_last)]
        files += [manifest.entry(modelfile, "modelfile"), manifest.entry(announce.RUN_FILE, "run")]
        files += trackers.files()
        manifest.write(MANIFEST, steps={"sft": self.sft.total, "dpo": self.dpo.total}, files=files)

    def run_evaluate(self) -> None:
        """Decisions on the evaluation rows, in the log and in evaluation.json."""
        if not (ADAPTER / "adapter_model.safetensors").is_file():
            raise PackageError(f"there is no adapter in {ADAPTER} to evaluate; run --stage all first")
        folder = Path(self._config.data.folder)
        features = rows.read_examples(folder / builder.EVAL_FEATURE_FILE).rows
        scenarios = rows.read_examples(folder / builder.EVAL_SCENARIO_FILE).rows
        base_model = self._load(str(self.base), training.compute_dtype(), self._config.model.attention)
        evaluate.evaluate(
            PeftModel.from_pretrained(base_model, str(ADAPTER)),
            self.chat,
            {"direction": (self._data.features.rows, features), "trade": (self._data.scenarios.rows, scenarios)},
            learned=[*self._data.examples, *self._data.pairs.rows],
        )

    def run_ready(self) -> None:
        """Prove before the training that the base model is here, that the rows fit it, that the export writes files.

        The export of the real base is laid out (every tensor it needs is found); a tiny model of the same
        architecture is really written and verified, in each quantisation that the run will make.
        """
        self._refuse_unsaid()
        runlog.say(runlog.NOTE, stage="ready", text=f"turns end with {self.chat.turns.end}: {self.chat.turns.ollama!r}")
        config, files = self._config, sorted(self.base.glob("*.safetensors"))
        size, tokens = sum(path.stat().st_size for path in files), len(self.chat.tokenizer)
        runlog.say(runlog.READY_BASE, name=config.model.name, files=len(files), size=size, tokens=tokens)
        self._refuse_impossible()
        with tempfile.TemporaryDirectory(prefix="forex-ready-") as folder:
            model = Model(name=str(Path(folder) / "base"), built=Shape(like=str(self.base)))
            tiny = base.directory(model, (), config.run.seed)
            source = export.Source.of(tiny, None, self.chat)
            for quantization in config.export.quantizations:
                target = Path(folder) / f"ready.{quantization}.gguf"
                written = export.write(source, target, quantization=quantization, name="ready")
                digest = written.sha256
                runlog.say(runlog.READY_EXPORT, quantization=quantization, size=written.size, digest=digest)

    @cached_property
    def base(self) -> Path:
        """The base model's directory."""
        texts = (text for row in self._data.examples for text in (row.prompt, row.completion))
        with ranks.in_turn():
            return base.directory(self._config.model, texts, self._config.run.seed)

    @cached_property
    def chat(self) -> chat.Chat:
        """The base model's tokenizer, and the turns that are trained."""
        return chat.of(base.tokenizer(self.base), self._config.model)

    def _total(self, stage: str, count: int, settings: Any) -> int:
        return total_steps(count, settings.epochs, self._config.rows_a_step(stage), settings.max_steps)

    def _targets(self) -> dict[str, Path]:
        """Path of each quantisation; the first is the artifact."""
        export = self._config.export
        return {
            kind: (FINAL if at == 0 else EXTRA) / f"{export.name}.{kind}.gguf"
            for at, kind in enumerate(export.quantizations)
        }

    def _refuse_stray_ggufs(self) -> None:
        """The final folder holds exactly one GGUF; another one could be taken for it."""
        for path in sorted(FINAL.glob("*.gguf")):
            if path not in self._targets().values():
                raise Refused(f"{path} is not what this run will write; move it away first")

    def _finished(self, stage: training.Stage) -> bool:
        """True, and said in the log, when nothing of the stage is left to train."""
        if stage.final_checkpoint() is None:
            return False
        runlog.say(runlog.STAGE_COMPLETE, stage=stage.name, number=stage.total, total=stage.total)
        return True

    def _loaded(self) -> Any:
        """The base model on its devices, fresh; the first load writes run.json and prints the plan."""
        needed = 0
        if not self._announced:
            needed = self._refuse_too_little(self._refuse_impossible())
            self._refuse_unsaid()
        gc.collect()  # the model of the stage before is in reference cycles
        model = self._load(str(self.base), training.compute_dtype(), self._config.model.attention)
        if not self._announced:
            announce.announce(self._config, self._identity, model, disk_needed=needed)
            self._announced = True
        return model

    def _refuse_impossible(self) -> Mapping[str, Any]:
        """Refuse a base model that could not be exported; answers its configuration."""
        source = export.Source.of(self.base, None, self.chat)
        export.refuse_impossible(source, self._config.export.quantizations, self._config.export.name)
        return source.config

    def _refuse_too_little(self, model: Mapping[str, Any]) -> int:
        """Refuse a disk that is too small, or a loader that leaves GPUs idle; answers the bytes that are needed."""
        with contextlib.suppress(OSError):  # a loader without readable source is judged by what it loaded
            refusals.refuse_unmapped_loader(inspect.getsource(self._load), torch.cuda.device_count())
        needed = disk.needed(self._config, model, self.base, self._stages)
        OUTPUT.mkdir(parents=True, exist_ok=True)  # it may lie on another disk than the package
        disk.refuse_full(needed, base=self.base, free=shutil.disk_usage(OUTPUT).free)
        return needed

    def _refuse_unsaid(self) -> None:
        """A preference row that is too long, or that the format cannot say, would else be found after the SFT."""
        for file in self._data.files.values():
            self.chat.refuse(file.path, file.rows, self._config.model.max_length)

    def _publish_adapter(self, checkpoint: Path) -> None:
        """The last checkpoint's adapter and the tokenizer, as one folder that is whole or absent."""
        with durable.replacing_folder(ADAPTER) as partial:
            partial.mkdir(parents=True)
            for name in ("adapter_model.safetensors", "adapter_config.json"):
                shutil.copyfile(checkpoint / name, partial / name)
            # The base's own: transformers 5 may write an unknown token back as a new id that the model does not have.
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copyfile(self.base / name, partial / name)
            text = self.chat.turns.published
            (partial / "chat_template.jinja").write_text(text, encoding="utf-8", newline="")
