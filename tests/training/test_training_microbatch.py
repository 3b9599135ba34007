"""A step in micro-batches: the same loss and gradients however it is split, and no dead run when memory runs out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forex import base, builder, chat, checkpoints, microbatch, order, rows, speed, trainers, training
from forex.config import Config, Dpo, Lora, Model, Run, Sft, Shape, Speed
from forex.errors import TrainingDefect
from forex.microbatch import Split
from transformers import AutoModelForCausalLM
from trl import DPOTrainer, SFTConfig, SFTTrainer

from harness.log import grammar
from harness.log.errors import ErrorLine

# Of peft's way of asking transformers.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")

ROWS = 8
CONFIG = Config(
    ROWS,
    lora=Lora(r=4, dropout=0.0),
    sft=Sft(learning_rate=1e-2, warmup_steps=0, accumulation=1, micro_batch=2),
    dpo=Dpo(learning_rate=1e-2, warmup_steps=0, micro_batch=2),
    run=Run(checkpoint_every=2, gradient_checkpointing=False),
)


@dataclasses.dataclass(frozen=True)
class Bench:
    """A tiny base with its rows, and trainers of it in a folder."""

    folder: Path
    chat: chat.Chat
    examples: list[rows.Example]
    pairs: list[rows.Preference]
    adapter: Path

    def model(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.folder / "base", dtype=torch.float32)

    def sft(self, folder: Path, config: Config = CONFIG, steps: int = 4) -> Any:
        return trainers.sft(config, training.Stage("sft", folder, steps), self.model(), self.chat, self.examples)

    def dpo(self, folder: Path, config: Config = CONFIG, steps: int = 4) -> Any:
        stage = training.Stage("dpo", folder, steps)
        return trainers.dpo(config, stage, self.model(), self.chat, self.pairs, start=self.adapter)

    def made(self, kind: str, folder: Path, config: Config = CONFIG) -> Any:
        return getattr(self, kind)(folder, config)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bench(built_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("microbatch")
    examples = [*read(built_data, builder.FEATURE_FILE)[:20], *read(built_data, builder.SCENARIO_FILE)[:20]]
    pairs = list(rows.read_preferences(built_data / builder.PREFERENCE_FILE).rows[:12])
    described = Model(str(folder / "base"), Shape(32, 1, 2, 1, 32, 600))
    words = base.tokenizer(base.directory(described, (row.prompt + row.completion for row in examples), 1))
    made = Bench(folder, chat.of(words, described), examples, pairs, folder / "sft" / "checkpoint-2")
    training.run(made.sft(folder / "sft", steps=2), training.Stage("sft", folder / "sft", 2))
    return made


def read(folder: Path, name: str) -> list[rows.Example]:
    return list(rows.read_examples(folder / name).rows)


def gradients(trainer: Any, split: Split) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first step, split so."""
    trainer._use(split)
    batch = trainer.data_collator([trainer.train_dataset[at] for at in range(ROWS)])
    items = (batch["labels"][:, 1:] != trainers.IGNORED).sum() if "labels" in batch else None
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, batch, items)
    return float(loss), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def trained(trainer: Any, *, steps: int = 4) -> Any:
    name = "dpo" if trainer.blocks == 2 else "sft"
    training.run(trainer, training.Stage(name, Path(trainer.args.output_dir), steps))
    return trainer


def holding(monkeypatch: pytest.MonkeyPatch, most: Callable[[int], int], seen: list[int] | None = None) -> None:
    """A card that runs full in the middle of a forward with more rows than ``most(step)``."""
    plain = microbatch.Splitting.compute_loss

    def compute(self: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        loss = plain(self, model, inputs, *rest, **named)
        size = len(inputs["input_ids"]) // self.blocks
        if seen is not None:
            seen.append(size)
        if size > most(self.state.global_step + 1):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss

    monkeypatch.setattr(microbatch.Splitting, "compute_loss", compute)


@pytest.mark.parametrize(
    ("most", "longest", "may_checkpoint", "ladder"),
    [
        (32, 200, True, "32 16 8 32c 16c 8c 4c 2c 1c"),
        (128, 200, True, "128 64 32 16 8 128c 64c 32c 16c 8c 4c 2c 1c"),
        (32, 1024, True, "32 16 8 4 2 1 32c 16c 8c 4c 2c 1c"),
        (32, 200, False, "32 16 8 4 2 1"),
        (2, 100, True, "2 2c 1c"),
        (1, 9, True, "1 1c"),
        (30, 100, False, "30 15 8 4 2 1"),
        (999, 1, False, "200 100 50 25 13 7 4 2 1"),
    ],
)
def test_what_is_tried_first_is_fastest_and_what_is_tried_last_takes_least(
    most: int, longest: int, may_checkpoint: bool, ladder: str
) -> None:
    found = microbatch.splits(200, longest, at_most=most, may_checkpoint=may_checkpoint)
    assert " ".join(f"{split.size}{'c' * split.checkpointing}" for split in found) == ladder


def test_parts_are_all_rows_once_each_padded_to_its_own_longest() -> None:
    lengths = [9, 7, 4, 4, 2]
    blocks = [lengths, [3, 8, 4, 1, 2]]
    mask = torch.tensor([[1] * n + [0] * (12 - n) for block in blocks for n in block])
    ids = mask * torch.arange(1, 11)[:, None]
    inputs = {"input_ids": ids, "attention_mask": mask, "ref_chosen_logps": torch.arange(5.0)}
    found = list(microbatch.parts(inputs, 5, 2))
    assert [count for count, _ in found] == [2, 2, 1]
    assert [part["input_ids"].shape for _, part in found] == [(4, 9), (4, 4), (2, 2)]
    assert [part["input_ids"][:, 0].tolist() for _, part in found] == [[1, 2, 6, 7], [3, 4, 8, 9], [5, 10]]
    assert [part["ref_chosen_logps"].tolist() for _, part in found] == [[0, 1], [2, 3], [4]]
    wide = [part["input_ids"].shape[1] for _, part in microbatch.parts(inputs, 5, 2, 4)]
    assert wide == [12, 4, 4]


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_loss_and_gradients_do_not_depend_on_the_split(bench: Bench, tmp_path: Path, kind: str) -> None:
    trainer = bench.made(kind, tmp_path)
    whole, wanted = gradients(trainer, Split(ROWS))
    assert len(wanted) == 14
    for split in (Split(4), Split(3), Split(1), Split(8, checkpointing=True), Split(2, checkpointing=True)):
        loss, found = gradients(trainer, split)
        assert loss == pytest.approx(whole, rel=1e-6), split
        for name, gradient in wanted.items():
            # Sums of other parts are as exact as their largest number, whatever the processor adds first.
            exact = 1e-4 * float(gradient.abs().max())
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=exact, msg=f"{split} {name}")
    assert trainer.model.is_activation_checkpointing
    again, _ = gradients(trainer, Split(ROWS))
    assert again == whole
    assert not trainer.model.is_activation_checkpointing


def test_a_part_that_is_left_out_of_the_step_would_be_seen(bench: Bench, tmp_path: Path) -> None:
    """The comparison above is none of a constant: another normalisation gives other gradients."""
    trainer = bench.dpo(tmp_path)
    _, wanted = gradients(trainer, Split(ROWS))
    trainer.compute_loss = lambda *a, **k: DPOTrainer.compute_loss(trainer, *a, **k)
    _, found = gradients(trainer, Split(3))
    assert any(not torch.allclose(found[name], wanted[name], rtol=1e-3) for name in wanted)


@pytest.mark.slow
def test_the_same_micro_batches_give_trls_own_numbers_bit_by_bit(bench: Bench, tmp_path: Path) -> None:
    """A step in parts against TRL's gradient accumulation over the same rows, with dropout."""
    config = dataclasses.replace(CONFIG, lora=Lora(r=4, dropout=0.1))
    ours = bench.sft(tmp_path / "ours", config)
    plain_arguments = training.arguments(config, training.Stage("sft", tmp_path / "plain", 4)) | {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": ROWS // 2,
    }
    plain = SFTTrainer(
        model=bench.model(),
        args=SFTConfig(**plain_arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=ours.train_dataset,
        processing_class=bench.chat.tokenizer,
        peft_config=trainers.lora(config),
    )
    # Both draw their adapter from the same seed, and dropout from where that left the numbers.
    torch.manual_seed(7)
    plain.train()
    torch.manual_seed(7)
    trained(ours)
    assert losses(ours) == losses(plain)
    other = dict(plain.model.named_parameters())
    assert all(torch.equal(weight, other[name]) for name, weight in ours.model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_memory_that_runs_out_in_mid_run_halves_the_parts_and_does_the_step_again(
    bench: Bench, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(CONFIG, sft=dataclasses.replace(CONFIG.sft, micro_batch=8))
    config = dataclasses.replace(config, dpo=dataclasses.replace(CONFIG.dpo, micro_batch=8))
    calm = trained(bench.made(kind, tmp_path / "calm", config))
    holding(monkeypatch, lambda step: 8 if step < 3 else 2)
    shaken = trained(bench.made(kind, tmp_path / "shaken", config))
    assert losses(shaken) == pytest.approx(losses(calm), rel=1e-5)
    counted = [entry["num_tokens"] for entry in calm.state.log_history if "num_tokens" in entry]
    assert [entry["num_tokens"] for entry in shaken.state.log_history if "num_tokens" in entry] == counted
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "MICRO BATCH" in line] == [
        f"[{kind}] MICRO BATCH 8 of 8 rows, checkpointing off: not measured on the CPU",
        f"[{kind}] MICRO BATCH 8 of 8 rows, checkpointing off: not measured on the CPU",
        f"[{kind}] MICRO BATCH 4 of 8 rows, checkpointing off: 8 did not fit at step 3",
        f"[{kind}] MICRO BATCH 2 of 8 rows, checkpointing off: 4 did not fit at step 3",
    ]
    log = "".join(f"{line}\n" for line in said).encode()
    events = grammar.parse(grammar.lines(log), None)
    assert sum(isinstance(event, grammar.Step) for event in events) == 8
    assert not [event for event in events if isinstance(event, ErrorLine)]


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_split_of_its_checkpoint(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(
        CONFIG, lora=Lora(r=4, dropout=0.1), sft=dataclasses.replace(CONFIG.sft, micro_batch=8)
    )
    with monkeypatch.context() as patched:
        holding(patched, lambda _: 4)
        whole = trained(bench.sft(tmp_path / "run", config))
    monkeypatch.setattr(microbatch, "measurable", lambda: True)
    monkeypatch.setattr(microbatch.Splitting, "_trial", lambda _: pytest.fail("a resumed run tries nothing"))
    last = tmp_path / "run" / "checkpoint-4"
    (last / "optimizer.pt").unlink()
    capsys.readouterr()
    resumed = trained(bench.sft(tmp_path / "run", config))
    assert "MICRO BATCH 4 of 8 rows, checkpointing off: as in the checkpoint" in capsys.readouterr().out
    assert losses(resumed) == losses(whole)
    wanted = dict(whole.model.named_parameters())
    assert all(torch.equal(weight, wanted[name]) for name, weight in resumed.model.named_parameters())


@pytest.mark.parametrize(
    ("kept", "split"),
    [
        ({"micro_batch": 4, "checkpointing": True}, Split(4, checkpointing=True)),
        ({"micro_batch": 8, "checkpointing": False}, Split(8)),
        ({"micro_batch": 9, "checkpointing": False}, None),
        ({"micro_batch": 0, "checkpointing": False}, None),
        ({"micro_batch": True, "checkpointing": False}, None),
        ({"micro_batch": "4", "checkpointing": False}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_checkpoint_without_a_usable_split_leaves_the_choice_open(
    tmp_path: Path, kept: dict[str, Any] | None, split: Split | None
) -> None:
    state = {"stateful_callbacks": {"LogLines": {"attributes": kept}} if kept is not None else []}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    assert training._recorded(checkpoints.Checkpoint(tmp_path, 2), ROWS) == split


class Card:
    """A card of 80 GiB of which a row takes so many; the model alone 10 GiB."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gib_a_row: float) -> None:
        self.seen: list[int] = []
        holding(monkeypatch, lambda _: math.floor(70 / gib_a_row), self.seen)
        monkeypatch.setattr(microbatch, "measurable", lambda: True)
        taken = lambda _: int((10 + gib_a_row * max(self.seen, default=0)) * 2**30)  # noqa: E731
        for name, answer in {
            "device_count": lambda: 1,
            "reset_peak_memory_stats": lambda _: self.seen.clear(),
            "max_memory_reserved": taken,
            "memory_reserved": lambda _: 10 * 2**30,
            "mem_get_info": lambda _: (70 * 2**30, 80 * 2**30),
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gib_a_row", "size"),
    [(1, 8), (7.9, 8), (8.5, 4), (20, 2), (60, 1)],  # of 8.5 GiB eight fit, without room
)
def test_the_trial_takes_the_biggest_that_fits_with_room(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gib_a_row: float, size: int
) -> None:
    trainer = bench.sft(tmp_path, dataclasses.replace(CONFIG, sft=Sft()))
    trainer.model_wrapped = trainer.model
    card = Card(monkeypatch, gib_a_row)
    before = torch.get_rng_state(), {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    assert trainer.choose(None) == f"{10 + size * gib_a_row:.1f} of 80.0 GiB taken by the longest rows"
    assert trainer.split == Split(size)
    assert card.seen == [size, size]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(weight, before[1][name]) for name, weight in trainer.model.named_parameters())
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert not any(trainer._metrics["train"].values())
    assert trainer._total_train_tokens == 0


def test_the_trial_sees_the_longest_rows_of_the_run(bench: Bench, tmp_path: Path) -> None:
    trainer = bench.sft(tmp_path)
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    assert [lengths[at] for at in trainer._drawn.longest] == sorted(lengths, reverse=True)[:ROWS]
    assert trainer._drawn.tokens == max(lengths)


def test_a_row_that_fits_no_way_ends_the_run_with_the_remedy(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(monkeypatch, lambda _: 0)
    with pytest.raises(TrainingDefect, match=r"not one row of \d+ tokens fits .* lower max_length"):
        trained(bench.sft(tmp_path))


def test_another_error_is_no_lack_of_memory(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(microbatch.Splitting, "compute_loss", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        trained(bench.sft(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("step", "most"), [(128, 0.02), (32, 0.04)])
def test_little_of_a_step_is_padding(bench: Bench, built_data: Path, step: int, most: float) -> None:
    every = [*read(built_data, builder.FEATURE_FILE), *read(built_data, builder.SCENARIO_FILE)]
    ids = bench.chat.prompts(every), bench.chat.answers(every, "completion")
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(*ids, strict=True)]
    drawn = [lengths[row] for row in order.drawn(len(every), steps=100, rows_a_step=step, seed=17)]
    stand = [drawn[at] for at in order.by_length(drawn, step)]
    for size in (8, 16):
        widths = [max(stand[at : at + size]) for at in range(0, len(stand), size)]
        assert 1 - sum(stand) / (size * sum(widths)) < most
        in_any_order = [max(drawn[at : at + size]) for at in range(0, len(drawn), size)]
        assert 1 - sum(drawn) / (size * sum(in_any_order)) > 0.05


def test_each_row_is_tokenised_once(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    plain = chat.Chat.prompts

    def counting(self: Any, some: Any) -> Any:
        counted.append(len(some))
        return plain(self, some)

    monkeypatch.setattr(chat.Chat, "prompts", counting)
    trainer = bench.sft(tmp_path, steps=12)
    assert len(trainer.train_dataset) == 12 * ROWS
    assert counted == [len(bench.examples)]


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("levers", [Speed(pad_mask=False), Speed(pad_to=16), Speed(cast_inputs=True)])
def test_a_lever_changes_no_number_beyond_rounding(bench: Bench, tmp_path: Path, kind: str, levers: Speed) -> None:
    wanted, gradient = gradients(bench.made(kind, tmp_path / "plain"), Split(4))
    loss, found = gradients(bench.made(kind, tmp_path / "levers", dataclasses.replace(CONFIG, speed=levers)), Split(4))
    assert loss == pytest.approx(wanted, rel=1e-6)
    for name in gradient:
        torch.testing.assert_close(found[name], gradient[name], rtol=1e-3, atol=1e-7)


def test_a_lever_that_the_machine_cannot_go_is_left_off_with_a_word(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levers = Speed(kernels=True, compile=True, fused_optimizer=False)
    trainer = bench.sft(tmp_path, dataclasses.replace(CONFIG, speed=levers))
    assert trainer.args.optim == "adamw_torch"
    with speed.applied(trainer, "sft"):
        said = capsys.readouterr().out
    assert "[sft] speed.kernels is left off: there is no GPU" in said
    assert "[sft] speed.compile is left off: there is no GPU" in said


@pytest.mark.parametrize(("bf16", "cast", "wanted"), [(True, False, False), (True, True, True), (False, False, True)])
def test_inputs_are_cast_where_nothing_else_does(
    bench: Bench, tmp_path: Path, bf16: bool, cast: bool, wanted: bool
) -> None:
    trainer = bench.sft(tmp_path, dataclasses.replace(CONFIG, speed=Speed(cast_inputs=cast)))
    trainer.args.bf16 = bf16
    layer = trainer.model.base_model.model.model.layers[0].mlp.up_proj
    with speed.applied(trainer, "sft"):
        assert layer.cast_input_dtype_enabled is wanted
    assert layer.cast_input_dtype_enabled


def test_without_casts_bfloat16_gives_the_same_bits(bench: Bench, tmp_path: Path) -> None:
    trainer = bench.sft(tmp_path)
    trainer.model.base_model.model.to(torch.bfloat16)
    for name, weight in trainer.model.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    found = []
    for cast in (True, False):
        trainer.args.bf16, trainer.levers = True, Speed(cast_inputs=cast)
        with speed.applied(trainer, "sft"), torch.autocast("cpu", torch.bfloat16):
            found.append(gradients(trainer, Split(ROWS)))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


def test_the_decoders_layers_are_what_is_compiled(bench: Bench) -> None:
    model = bench.model()
    assert speed._layers(model) == list(model.model.layers)
