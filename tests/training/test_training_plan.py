"""What is planned before anything is loaded: steps, order, configuration, refusals."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from forex import cli, config, dataset, loading, order, refusals, training
from forex.errors import BadConfig, Refused, TrainingDefect
from hypothesis import given
from hypothesis import strategies as st

TINY = Path(config.__file__).parents[1] / "configs" / "tiny.toml"


def test_the_real_run_announces_330_and_80_steps() -> None:
    real = config.load(None, batch_size=32)
    assert (real.rows_a_step("sft"), real.rows_a_step("dpo")) == (128, 32)
    assert config.total_steps(15_300, real.sft.epochs, real.rows_a_step("sft"), real.sft.max_steps) == 330
    assert config.total_steps(2_550, real.dpo.epochs, real.rows_a_step("dpo"), real.dpo.max_steps) == 80
    assert (real.lora.r, real.lora.alpha, real.lora.dropout, len(real.lora.target_modules)) == (64, 128, 0.05, 7)
    assert (real.sft.learning_rate, real.sft.epochs, real.dpo.learning_rate, real.dpo.beta) == (2e-5, 3.0, 2e-6, 0.1)


def test_the_real_run_sees_every_row_and_the_other_reading_does_not(tmp_path: Path) -> None:
    for rows, steps, a_step, epochs in ((15_300, 330, 128, 3), (2_550, 80, 32, 2)):
        times = Counter(order.drawn(rows, steps=steps, rows_a_step=a_step, seed=17))
        assert len(times) == rows
        assert set(times.values()) <= {epochs - 1, epochs}
    path = tmp_path / "one.toml"
    path.write_text("[sft]\naccumulation = 1\n", encoding="utf-8")
    other = config.load(path, batch_size=32)
    assert other.rows_a_step("sft") == 32
    assert len(set(order.drawn(15_300, steps=330, rows_a_step=32, seed=17))) == 10_560


@pytest.mark.parametrize(("stage", "batch", "accumulation"), [("sft", 32, 4), ("sft", 32, 3), ("dpo", 7, 2)])
def test_what_goes_through_at_once_adds_up_to_the_rows_of_a_step(stage: str, batch: int, accumulation: int) -> None:
    settings = config.Config(
        batch, sft=config.Sft(accumulation=accumulation), dpo=config.Dpo(accumulation=accumulation)
    )
    given = training.arguments(settings, training.Stage(stage, Path("x"), 5))
    rows = given["per_device_train_batch_size"] * given["gradient_accumulation_steps"]
    assert rows == settings.rows_a_step(stage) == batch * accumulation


def test_a_trainer_that_takes_other_rows_than_were_announced_is_stopped() -> None:
    args = SimpleNamespace(per_device_train_batch_size=8, gradient_accumulation_steps=4)
    with pytest.raises(TrainingDefect, match="330 steps of sft take 32 rows each, but 42240 rows were drawn"):
        training.run(SimpleNamespace(args=args, train_dataset=range(42_240)), training.Stage("sft", Path("x"), 330))


def test_the_rehearsal_differs_only_in_size() -> None:
    tiny = config.load(TINY, batch_size=32)
    assert tiny.lora == config.Lora()
    assert tiny.model.max_length == config.Model().max_length
    assert tiny.run.checkpoint_every == 100 < tiny.sft.max_steps


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sft]\nepoch = 3", r"sft: unknown field 'epoch'; allowed: .*epochs"),
        ("[sft]\nmax_steps = 'x'", "sft: max_steps is 'x', not int"),
        ("[sft]\nmax_steps = true", "sft: max_steps is True, not int"),
        ("sft = 3", "sft is not a table"),
        ("[lora]\ntarget_modules = 'q'", "target_modules is not a list"),
        ("[run]\ncheckpoint_limit = 1", "at least 2"),
        ("[run]\ncheckpoint_every = 0", "checkpoint_every is 0"),
        ("[sft]\naccumulation = 0", "sft.accumulation is 0; it must be positive"),
        ("[sft]\nmax_steps = -1", r"sft.max_steps is -1; it must not be negative \(0: no cap\)"),
        ("[dpo]\nwarmup_steps = -1", "dpo.warmup_steps is -1"),
        ("[sft]\nepochs = nan", "sft.epochs is nan; it must be positive"),
        ("[dpo]\nlearning_rate = inf", "dpo.learning_rate is inf"),
        ("[dpo]\nbeta = 0.0", "dpo.beta is 0.0"),
        ("[lora]\ndropout = 5.0", "lora.dropout is 5.0"),
        ("batch_size = 16", "batch_size is the constant BATCH_SIZE of train_deepseek_forex.py"),
        ("[export]\nquantizations = ['Q3']", "'Q3' is unknown; allowed: Q8_0"),
        ("[export]\nname = '../x'", "letters, digits"),
        ("[sft]\nmicro_batch = -1", r"sft.micro_batch is -1; it must not be negative \(0: as many as fit\)"),
        ("[speed]\npad_to = 0", "speed.pad_to is 0; it must be positive"),
        ("[speed]\ncompile = 'yes'", "speed: compile is 'yes', not bool"),
        ("[speed]\nflash = true", "speed: unknown field 'flash'; allowed: cast_inputs, compile,"),
        ("[", "cannot read"),
    ],
)
def test_a_bad_configuration_names_the_field(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadConfig, match=said):
        config.load(path, batch_size=32)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 16), st.integers(0, 9))
def test_every_epoch_sees_every_row_once(rows: int, steps: int, batch: int, seed: int) -> None:
    seen = order.drawn(rows, steps=steps, rows_a_step=batch, seed=seed)
    assert len(seen) == steps * batch
    for start in range(0, len(seen), rows):
        epoch = seen[start : start + rows]
        assert len(set(epoch)) == len(epoch)
    assert seen == order.drawn(rows, steps=steps, rows_a_step=batch, seed=seed)


@given(st.lists(st.lists(st.integers(1, 500), min_size=4, max_size=4), min_size=1, max_size=9))
def test_a_step_keeps_its_samples_and_puts_the_longest_first(steps: list[list[int]]) -> None:
    lengths = [length for step in steps for length in step]
    positions = order.by_length(lengths, 4)
    for number, step in enumerate(steps):
        block = positions[4 * number : 4 * number + 4]
        assert sorted(block) == list(range(4 * number, 4 * number + 4))
        assert [lengths[at] for at in block] == sorted(step, reverse=True)


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "8"},
        {"LOCAL_WORLD_SIZE": "2"},
        {"TORCHELASTIC_RUN_ID": "none"},
        {"ACCELERATE_USE_DEEPSPEED": "true"},
        {"ACCELERATE_USE_FSDP": "true"},
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        # What accelerate launch sets for one process without any option.
        {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_USE_CPU": "False"},
        {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "3"},
        {"PMI_SIZE": "2"},
        {"HOROVOD_SIZE": "2"},
        {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "ds.json"},
    ],
)
def test_a_launcher_is_refused_with_the_remedy(environment: dict[str, str]) -> None:
    with pytest.raises(Refused, match=r"run it as: python3 train_deepseek_forex\.py --stage all"):
        refusals.refuse_launchers(environment)


@pytest.mark.parametrize(
    ("environment", "lesson"),
    [
        ({"WORLD_SIZE": "8"}, "torchrun-ddp-lora"),
        ({"TORCHELASTIC_RUN_ID": "none"}, "torchrun-ddp-lora"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "deepspeed-zero-trl"),
        ({"FSDP_AUTO_WRAP_POLICY": "x"}, "fsdp-through-trainer"),
        ({"ACCELERATE_DYNAMO_BACKEND": "NO"}, "accelerate-launch-lora"),
    ],
)
def test_a_refusal_names_its_lesson_and_the_newest_verdict(environment: dict[str, str], lesson: str) -> None:
    with pytest.raises(Refused, match=rf"lesson {lesson}, .* on \d{{4}}-\d\d-\d\d with torch \d"):
        refusals.refuse_launchers(environment)


def test_a_package_without_its_verdicts_refuses_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "__file__", str(tmp_path / "forex" / "refusals.py"))
    with pytest.raises(Refused, match="several processes; lesson torchrun-ddp-lora; device_map=auto"):
        refusals.refuse_launchers({"WORLD_SIZE": "8"})


def test_a_plain_start_is_not_refused() -> None:
    refusals.refuse_launchers({"PATH": "/usr/bin", "WORLD_SIZE": "1", "ACCELERATE_USE_FSDP": "false"})


@pytest.mark.parametrize(
    ("version", "said"), [(None, "not installed"), ("2.1.0+cu121", "torch 2.1.0"), ("1.13", "too old")]
)
def test_a_torch_that_would_be_switched_off_is_refused(version: str | None, said: str) -> None:
    with pytest.raises(Refused, match=said):
        refusals.refuse_torch(version)
    refusals.refuse_torch("2.13.0+cpu")


def test_a_model_on_one_of_several_gpus_is_refused() -> None:
    with pytest.raises(Refused, match="device_map=None with 8 GPUs"):
        refusals.refuse_unmapped(None, 8)
    refusals.refuse_unmapped(None, 1)
    refusals.refuse_unmapped({"": "cpu"}, 8)


@pytest.mark.parametrize("call", ["load(source)", "load(source, device_map=None)"])
def test_a_loader_that_maps_to_no_device_is_refused_before_it_loads(call: str) -> None:
    source = f"    def load_base_model(source, dtype, attention):\n        return {call}\n"
    with pytest.raises(Refused, match=r'device_map=None with 8 GPUs.*device_map="auto"'):
        refusals.refuse_unmapped_loader(source, 8)
    refusals.refuse_unmapped_loader(source, 1)


def test_the_entry_scripts_own_loader_is_not_refused() -> None:
    script = Path(config.__file__).parents[1] / "train_deepseek_forex.py"
    refusals.refuse_unmapped_loader(script.read_text(encoding="utf-8"), 8)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (Refused("a disk that is too small"), 1, "a disk that is too small"),
        (ValueError("two\nlines"), 1, "ValueError: two lines"),
    ],
)
@pytest.mark.usefixtures("elsewhere")
def test_whatever_ends_a_run_is_its_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_quiet", lambda: None)
    monkeypatch.setattr(dataset, "prepare", fail)
    assert cli.main(["--stage", "prepare"], batch_size=32, load_base_model=print) == status
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"TRAINING FAILED: {said}")


def test_the_collector_is_back_after_an_import_and_after_one_that_failed() -> None:
    with loading.undisturbed():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), loading.undisturbed():
        raise ImportError
    assert gc.isenabled()
    gc.unfreeze()
