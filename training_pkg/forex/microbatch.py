"""One optimizer step in micro-batches: as many rows at once as the card holds, and fewer when it runs full.

A trainer's batch is a whole step. Each part's loss is divided by what the whole step's is divided by (SFT: its learned
tokens; DPO: its pairs), so neither loss nor gradient depends on how the step is split; only dropout draws other masks.
Since data order and step count do not depend on it either, the split may change in the middle of a run.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import should_reduce_batch_size

from . import ranks
from .config import Run, Speed
from .errors import TrainingDefect

ON_CPU = 8
"""Rows at once where memory is not measured."""

BUSY = 1024
"""Tokens at once below which a card fetches weights and starts kernels more than it computes: rather checkpoint.

An H100 computes 989 TFLOP/s in bfloat16 and reads 3.35 TB/s: under 300 tokens it waits for the weights alone.
"""

ROOM = 0.92
"""Share of the memory that a trial may take; the rest is for other shapes of rows, and for fragments."""


_RNG = "rng_state.pth"


@dataclass(frozen=True, slots=True)
class Split:
    """Rows (DPO: pairs) that go through the model at once, and whether activations are computed a second time."""

    size: int
    checkpointing: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """Positions of a run's longest rows (a step's worth), and the longest's tokens."""

    longest: tuple[int, ...]
    tokens: int


def splits(rows: int, longest: int, *, at_most: int, may_checkpoint: bool) -> list[Split]:
    """Ways to compute a step of ``rows``, the fastest first and the least hungry last.

    ``longest`` is the tokens of the longest row. Checkpointing computes half as much again: it comes after every size
    that keeps a card busy without, and instead of those that do not.
    """
    sizes = [min(rows, at_most)]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    if not may_checkpoint:
        return [Split(size) for size in sizes]
    plain = [Split(size) for size in sizes if size == sizes[0] or size * longest >= BUSY]
    return [*plain, *(Split(size, checkpointing=True) for size in sizes)]


def parts(inputs: Mapping[str, Any], rows: int, size: int, multiple: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
    """Micro-batches of a step, each with its number of rows and padded to its own longest row.

    A tensor may hold several blocks of ``rows``: DPO's have all chosen answers before all rejected ones.
    """
    lengths = inputs["attention_mask"].sum(dim=1).reshape(-1, rows).amax(dim=0).tolist()
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        width = -(-int(max(lengths[start:stop])) // multiple) * multiple
        yield stop - start, {name: _cut(value, rows, start, stop, width) for name, value in inputs.items()}


def _cut(value: torch.Tensor, rows: int, start: int, stop: int, width: int) -> torch.Tensor:
    part: torch.Tensor = value.reshape(-1, rows, *value.shape[1:])[:, start:stop].flatten(0, 1)
    return part[:, :width] if part.dim() > 1 else part


def measurable() -> bool:
    """True where a trial can tell how much memory a split takes."""
    return torch.cuda.is_available()


class Splitting:
    """A trainer that computes each step in parts; stands before TRL's trainer among the bases.

    ``plan`` has to be called before the training. ``split`` is the one in use.
    """

    blocks = 1
    """Rows of the model's input for each row of the data."""
    split: Split
    levers: Speed
    tell: Callable[[str], None]
    """Says in the log that another split is in use, and why."""
    _share = 1.0

    def plan(self: Any, drawn: Drawn, *, at_most: int, run: Run, levers: Speed) -> None:
        """Take the run's rows and the configured limits."""
        rows = self.args.per_device_train_batch_size
        limit = at_most or (rows if measurable() else ON_CPU)
        tokens = self.blocks * drawn.tokens
        self.levers, self._drawn = levers, drawn
        self.current_gradient_accumulation_steps = 1  # the trainer sets it in its loop, and a trial comes before
        self._left = splits(rows, tokens, at_most=limit, may_checkpoint=run.gradient_checkpointing)
        self.split = self._left[0]

    def choose(self: Any, recorded: Split | None) -> str:
        """Settle on the recorded split, or on the first that fits in a trial; answers the reason, for the log."""
        if recorded is not None:
            self._left = [recorded, *(split for split in self._left if _hunger(split) < _hunger(recorded))]
            self._use(recorded)
            return "as in the checkpoint"
        self._use(self.split)
        _free()
        while measurable():
            back = self._here()
            taken = self._trial()
            back()
            if all(ranks.gathered(taken is not None)) and taken is not None:
                return f"{taken[0] / 2**30:.1f} of {taken[1] / 2**30:.1f} GiB taken by the longest rows"
            self._fall()
        return "not measured on the CPU"

    def training_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Loss of one whole step, its gradients added up part by part; again in smaller parts when memory runs out."""
        inputs = self._prepare_inputs(inputs)
        while True:
            back = self._here()
            loss: torch.Tensor | None = self._attempt(model, inputs, num_items_in_batch)
            if loss is not None:
                return loss
            back()
            size = self.split.size
            if ranks.world() > 1:  # the others are in the midst of it: all begin again, from the checkpoint
                raise TrainingDefect(f"{size} rows at once ran out of memory: lower micro_batch")
            self._fall()
            self.tell(f"{size} did not fit at step {self.state.global_step + 1}")

    def compute_loss(
        self: Any, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss; a mean over the part's pairs counts for the part's share of the step."""
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        return found if return_outputs else found * self._share

    def _save_rng_state(self: Any, output_dir: str) -> None:
        """One file, the first rank's: from a checkpoint any number of ranks goes on."""
        if ranks.world() == 1:
            super()._save_rng_state(output_dir)  # type: ignore[misc]
            return
        with tempfile.TemporaryDirectory() as folder:
            super()._save_rng_state(folder)  # type: ignore[misc]
            if ranks.first():
                Path(output_dir).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(folder) / f"rng_state_{ranks.rank()}.pth", Path(output_dir) / _RNG)

    def _load_rng_state(self: Any, checkpoint: str | None) -> None:
        if ranks.world() == 1 or checkpoint is None:
            super()._load_rng_state(checkpoint)  # type: ignore[misc]
            return
        with tempfile.TemporaryDirectory() as folder:
            shutil.copyfile(Path(checkpoint) / _RNG, Path(folder) / f"rng_state_{ranks.rank()}.pth")
            super()._load_rng_state(folder)  # type: ignore[misc]

    def _attempt(self: Any, model: Any, inputs: Any, items: Any) -> torch.Tensor | None:
        """The step's loss; None when the memory ran out, with nothing kept of the attempt's tensors."""
        rows, total = len(inputs["input_ids"]) // self.blocks, None
        try:
            for count, part in parts(inputs, rows, self.split.size, self.levers.pad_to):
                if not self.levers.pad_mask:
                    part["attention_mask"] = torch.ones_like(part["attention_mask"])
                self._share = 1.0 if items is not None else count / rows
                loss = super().training_step(model, part, items)  # type: ignore[misc]
                total = loss if total is None else total + loss
        except RuntimeError as error:  # kept by nobody: its traceback's frames hold the tensors
            if not _ran_full(error):
                raise
            return None
        return total

    def _trial(self: Any) -> tuple[int, int] | None:
        """Peak and limit of the fullest device, in bytes, over two micro-batches of longest rows; None: too much."""
        devices = range(torch.cuda.device_count())
        for device in devices:
            torch.cuda.reset_peak_memory_stats(device)
        rows = [self.train_dataset[at] for at in self._drawn.longest[: self.split.size]]
        learned = [weight for weight in self.model.parameters() if weight.requires_grad]
        try:
            moments = [torch.empty_like(weight) for weight in learned for _ in range(2)]  # Adam's, from step 1 on
        except torch.OutOfMemoryError:
            return None
        for _ in range(2):  # the second beside the gradients of the first, as within a step
            # Each rank alone: where one runs full, the others would wait for its gradients.
            whole = self.model if ranks.world() > 1 else self.model_wrapped
            if self._attempt(whole, self._prepare_inputs(self.data_collator(rows)), None) is None:
                return None
        del moments
        found = [
            (torch.cuda.max_memory_reserved(at), torch.cuda.mem_get_info(at)[0] + torch.cuda.memory_reserved(at))
            for at in devices
        ]
        peak, limit = max(found, key=lambda one: one[0] / one[1])
        return (peak, limit) if peak <= ROOM * limit else None

    def _here(self: Any) -> Callable[[], None]:
        """The way back to this moment before a step: no gradients, random numbers and counts as they are."""
        words, cards = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        tokens, counts = self._total_train_tokens, {name: len(seen) for name, seen in self._metrics["train"].items()}

        def back() -> None:
            self.model.zero_grad()
            _free()
            torch.set_rng_state(words)
            if cards:
                torch.cuda.set_rng_state_all(cards)
            self._total_train_tokens = tokens
            for name, seen in self._metrics["train"].items():
                del seen[counts.get(name, 0) :]

        return back

    def _fall(self: Any) -> None:
        """Go over to the next split that takes less memory."""
        self._left = self._left[1:]
        if not self._left:
            raise TrainingDefect(
                f"not one row of {self._drawn.tokens} tokens fits the memory beside the model: lower max_length in "
                "[model], or use a card with more memory"
            )
        self._use(self._left[0])

    def _use(self: Any, split: Split) -> None:
        self.split = split
        if split.checkpointing:
            self.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            self.model.activation_checkpointing_disable()


def _hunger(split: Split) -> tuple[bool, int]:
    """Grows with the memory that a split takes."""
    return not split.checkpointing, split.size


def _ran_full(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
