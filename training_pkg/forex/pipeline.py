"""The stages in their order: prepare, sft, dpo, export. Each goes on from what is whole on the disk."""

from __future__ import annotations

import contextlib
import gc
import inspect
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import base, builder, durable, rates, refusals, rows, runlog, template
from .config import Config, total_steps
from .errors import DataDefect, PackageError, Refused

if TYPE_CHECKING:
    from . import announce, training

OUTPUT = Path("models/output")
ADAPTER = OUTPUT / "adapter"
FINAL = OUTPUT / "final"
EXTRA = OUTPUT / "extra"
MANIFEST = Path("MANIFEST.json")
_LOCK = Path("models/.lock")


@dataclass(frozen=True, slots=True)
class Data:
    """What was read from the data folder."""

    features: rows.DataFile[rows.Example]
    scenarios: rows.DataFile[rows.Example]
    pairs: rows.DataFile[rows.Preference]

    @property
    def examples(self) -> list[rows.Example]:
        """Every SFT row, features first."""
        return [*self.features.rows, *self.scenarios.rows]


@contextlib.contextmanager
def sole_run() -> Iterator[None]:
    """Raise Refused while another run works in this directory; the lock ends with its process."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 - comes with huggingface_hub, needed here alone

    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise Refused("another run is at work in this directory; wait for it, or end it first") from error
    try:
        yield
    finally:
        lock.release()


def prepare(config: Config) -> Data:
    """Read the data, building it first when the folder is not there; the log says how many rows there are.

    Files that are there are the user's and are taken as they are. Raises DataDefect.
    """
    folder = Path(config.data.folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        partial = folder.with_name(folder.name + durable.PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        builder.build(partial, history=rates.default_file(), eval_from=config.data.eval_from, seed=config.data.seed)
        try:
            if folder.is_dir():
                folder.rmdir()
            partial.rename(folder)
        except OSError as error:
            raise DataDefect(
                f"{folder} is a link or a mount without files ({error.strerror}); put the files there, or remove it"
            ) from error
    data = Data(
        rows.read_examples(folder / builder.FEATURE_FILE),
        rows.read_examples(folder / builder.SCENARIO_FILE),
        rows.read_preferences(folder / builder.PREFERENCE_FILE),
    )
    runlog.integration(len(data.examples), len(data.pairs.rows))
    return data


class Pipeline:
    """One run in the current directory; raises Refused when another run's checkpoints lie there."""

    def __init__(self, config: Config, load_base_model: Callable[..., Any], data: Data) -> None:
        from transformers.utils import logging  # noqa: PLC0415 - slow to import

        from . import announce, training  # noqa: PLC0415 - imports torch, and preparing data needs none

        logging.disable_progress_bar()  # a bar's carriage returns have no place in the log
        logging.set_verbosity_error()  # whoever imported it first, and whatever level it was given then
        training.use_threads(config.run.threads)
        self._config, self._load, self._data = config, load_base_model, data
        self._announced = False
        self.sft = training.Stage("sft", OUTPUT / "sft", self._total(len(data.examples), config.sft))
        self.dpo = training.Stage("dpo", OUTPUT / "dpo", self._total(len(data.pairs.rows), config.dpo))
        files: dict[str, rows.DataFile[Any]] = {
            "features": data.features,
            "scenarios": data.scenarios,
            "pairs": data.pairs,
        }
        self._identity: announce.Identity = announce.Identity.of(config, self._stages, files)
        self._identity.refuse_another(self._stages)
        self._refuse_stray_ggufs()

    def run_sft(self) -> Path:
        """The last SFT checkpoint, trained now or before."""
        if (done := self._finished(self.sft)) is not None:
            return done
        from . import sft  # noqa: PLC0415 - imports torch

        return sft.train(self._config, self.sft, self._loaded(), self.tokenizer, self._data.examples)

    def run_dpo(self) -> Path:
        """The last DPO checkpoint, trained now or before from the last SFT checkpoint."""
        start = self.sft.final_checkpoint()
        if start is None:
            raise PackageError("there is no finished SFT adapter to start from; run --stage sft first")
        if (done := self._finished(self.dpo)) is not None:
            return done
        from . import dpo  # noqa: PLC0415 - imports torch

        pairs = list(self._data.pairs.rows)
        return dpo.train(self._config, self.dpo, self._loaded(), self.tokenizer, pairs, start=start)

    def run_export(self) -> None:
        """Final adapter, GGUF, Modelfile and the manifest, written last; nothing when all of it is there already."""
        from . import announce, disk, export, manifest  # noqa: PLC0415 - imports torch

        targets = self._targets()
        if manifest.holds(MANIFEST, list(targets.values())):
            runlog.note("export", f"{MANIFEST} holds: every output is there and whole")
            return
        MANIFEST.unlink(missing_ok=True)
        sft_last, dpo_last = self.sft.final_checkpoint(), self.dpo.final_checkpoint()
        if sft_last is None or dpo_last is None:
            raise PackageError("the training is not finished; run --stage all")
        self._publish_adapter(dpo_last)
        for folder in (FINAL, EXTRA):
            for killed in folder.glob(f"*.gguf{durable.PARTIAL}"):  # by an export that may have had other settings
                killed.unlink()
        source = export.Source.of(self.base, ADAPTER, self.tokenizer)
        needed = disk.needed(self._config, source.config, self.base, self._stages)
        announce.announce_export(self._config, self._identity, disk_needed=needed)
        files = []
        for quantization, target in targets.items():
            written = export.write(source, target, quantization=quantization, name=self._config.export.name)
            runlog.gguf(target, written.size, written.sha256)
            files.append({"path": target.as_posix(), "bytes": written.size, "sha256": written.sha256, "kind": "gguf"})
        modelfile = FINAL / "Modelfile"
        durable.write_bytes(modelfile, manifest.modelfile(next(iter(targets.values())).name).encode())
        files += [manifest.entry(path, "adapter") for path in sorted(ADAPTER.iterdir())]
        files += [manifest.entry(folder / "trainer_state.json", "trainer_state") for folder in (sft_last, dpo_last)]
        files += [manifest.entry(modelfile, "modelfile"), manifest.entry(announce.RUN_FILE, "run")]
        manifest.write(MANIFEST, steps={"sft": self.sft.total, "dpo": self.dpo.total}, files=files)

    def run_evaluate(self) -> None:
        """Decisions on the evaluation rows, in the log and in evaluation.json."""
        from peft import PeftModel  # noqa: PLC0415 - imports torch

        from . import evaluate, training  # noqa: PLC0415 - imports torch

        if not (ADAPTER / "adapter_model.safetensors").is_file():
            raise PackageError(f"there is no adapter in {ADAPTER} to evaluate; run --stage all first")
        folder = Path(self._config.data.folder)
        features = rows.read_examples(folder / builder.EVAL_FEATURE_FILE).rows
        scenarios = rows.read_examples(folder / builder.EVAL_SCENARIO_FILE).rows
        base_model = self._load(str(self.base), training.compute_dtype(), self._config.model.attention)
        evaluate.evaluate(
            PeftModel.from_pretrained(base_model, str(ADAPTER)),
            self.tokenizer,
            {
                "direction": (list(self._data.features.rows), list(features)),
                "trade": (list(self._data.scenarios.rows), list(scenarios)),
            },
            learned=[*self._data.examples, *self._data.pairs.rows],
        )

    def run_ready(self) -> None:
        """Prove before the training that the base model is here, that the rows fit it, that the export writes files."""
        from . import ready  # noqa: PLC0415 - imports torch

        self._refuse_full_prompts()
        ready.run(self._config, self.base, self.tokenizer)

    @cached_property
    def base(self) -> Path:
        """The base model's directory."""
        texts = (text for row in self._data.examples for text in (row.prompt, row.completion))
        return base.directory(self._config.model, texts, self._config.run.seed)

    @cached_property
    def tokenizer(self) -> Any:
        """The base model's tokenizer."""
        return base.tokenizer(self.base)

    @property
    def _stages(self) -> tuple[training.Stage, training.Stage]:
        return self.sft, self.dpo

    def _total(self, count: int, settings: Any) -> int:
        return total_steps(count, settings.epochs, self._config.batch_size, settings.max_steps)

    def _targets(self) -> dict[str, Path]:
        """Where each quantisation goes; the first is the artifact."""
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

    def _finished(self, stage: training.Stage) -> Path | None:
        """The stage's last checkpoint when nothing is left to train."""
        done = stage.final_checkpoint()
        if done is not None:
            runlog.stage_complete(stage.name, stage.total, stage.total)
        return done

    def _loaded(self) -> Any:
        """The base model on its devices, fresh; the first load writes run.json and prints the plan."""
        from . import announce, export, training  # noqa: PLC0415 - imports torch

        needed = 0
        if not self._announced:
            source = export.Source.of(self.base, None, self.tokenizer)
            export.refuse_impossible(source, self._config.export.quantizations, self._config.export.name)
            needed = self._refuse_too_little(source.config)
            self._refuse_full_prompts()
        gc.collect()  # the model of the stage before is in reference cycles
        model = self._load(str(self.base), training.compute_dtype(), self._config.model.attention)
        if not self._announced:
            announce.announce(self._config, self._identity, model, stages=self._stages, disk_needed=needed)
            self._announced = True
        return model

    def _refuse_too_little(self, model: Mapping[str, Any]) -> int:
        """Refuse a disk that is too small, or a loader that leaves GPUs idle; answers the bytes that are needed."""
        import torch  # noqa: PLC0415 - preparing data needs none

        from . import disk  # noqa: PLC0415 - imports torch

        with contextlib.suppress(OSError):  # a loader without readable source is judged by what it loaded
            refusals.refuse_unmapped_loader(inspect.getsource(self._load), torch.cuda.device_count())
        needed = disk.needed(self._config, model, self.base, self._stages)
        OUTPUT.mkdir(parents=True, exist_ok=True)  # it may lie on another disk than the package
        disk.refuse_full(needed, base=self.base, free=shutil.disk_usage(OUTPUT).free)
        return needed

    def _refuse_full_prompts(self) -> None:
        """A preference row that is too long would else be found only when the SFT is paid for."""
        for file in (self._data.features, self._data.scenarios, self._data.pairs):
            prompts = template.encode_prompts(self.tokenizer, [(row.prompt, row.system) for row in file.rows])
            template.refuse_full(file.path, prompts, self._config.model.max_length)

    def _publish_adapter(self, checkpoint: Path) -> None:
        """The last checkpoint's adapter and the tokenizer, as one folder that is whole or absent."""
        from . import gguf_vocab  # noqa: PLC0415 - imports torch

        partial = ADAPTER.with_name(ADAPTER.name + durable.PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copyfile(checkpoint / name, partial / name)
        # The base's own files: transformers 5 may write an unknown token back as a new id that the model does not have.
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(self.base / name, partial / name)
        text = gguf_vocab.chat_template(self.tokenizer)
        (partial / "chat_template.jinja").write_text(text, encoding="utf-8", newline="")
        shutil.rmtree(ADAPTER, ignore_errors=True)
        partial.rename(ADAPTER)
