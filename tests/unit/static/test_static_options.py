"""Option pairs that fail are found in the text; the table is true of the installed libraries."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from harness.static import options
from harness.static.script import parse
from harness.static.sources import Sources

REENTRANT = "m.gradient_checkpointing_enable(gradient_checkpointing_kwargs={'use_reentrant': True})"


def package(text: str, **more: str) -> Sources:
    scripts = {"train.py": parse(text)} | {f"{name}.py": parse(body) for name, body in more.items()}
    return Sources(frozenset(scripts), scripts)


def found(text: str, **more: str) -> tuple[str, ...]:
    return options.find(package(text, **more), "train.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "A(gradient_checkpointing_kwargs={'use_reentrant': True}, ddp_find_unused_parameters=False)",
            "Expected to mark a variable ready only once",
        ),
        ("A(load_best_model_at_end=True, eval_strategy='epoch', save_strategy='steps')", "both strategies must match"),
        ("A(load_best_model_at_end=True)", "both strategies must match"),
        (
            "A(load_best_model_at_end=True, eval_strategy='steps', save_steps=100, eval_steps=30)",
            "be a multiple of eval_steps",
        ),
        (
            "A(load_best_model_at_end=True, eval_strategy='steps', save_steps=100, eval_steps=50, save_total_limit=1)",
            "transformers issue 25136",
        ),
        ("A(save_strategy='epoch')", "too much to lose"),
        ("A(save_total_limit=1)", "leaves none that is complete"),
        ("A(fp16=True, bf16=True)", "at most one of both"),
        ("DPOTrainer(model=m, peft_config=LoraConfig(r=64))", "the base model becomes the reference"),
        ("SFTTrainer(formatting_func=f, args=A(completion_only_loss=True))\nA(completion_only_loss=True)", None),
        ("T(completion_only_loss=True, formatting_func=f)", "the formatter turns"),
        ("A(padding_free=True, max_length=1024)", "max_length is not enforced"),
        ("SFTConfig(max_seq_length=1024)", "use max_length"),
        ("trl.SFTTrainer(tokenizer=t)", "use processing_class"),
        ("from trl import DataCollatorForCompletionOnlyLM", "trl has none"),
        ("m = PeftModel.from_pretrained(b, a)\nDPOTrainer(model=m)", "the adapter is frozen"),
        ("m = peft.PeftModel.from_pretrained(b, a, is_trainable=False)\nTrainer(m)", "the adapter is frozen"),
        ("def f(m):\n    m = m.merge_and_unload()\n    SFTTrainer(model=m)", "no adapter is left"),
        ("SFTConfig(assistant_only_loss=True)", "template of DeepSeek-R1-Distill has none"),
        (REENTRANT, "does not require grad"),
        (
            "def common():\n    return {'save_strategy': 'epoch'}\nA(**common())",
            "train.py:3: training with save_strategy",
        ),
        ("A(**{'fp16': True}, bf16=True)", "at most one of both"),
    ],
)
def test_a_pair_is_found(text: str, said: str | None) -> None:
    findings = found(text)
    assert (not findings) if said is None else any(said in finding for finding in findings), findings


@pytest.mark.parametrize(
    "text",
    [
        "A(gradient_checkpointing_kwargs={'use_reentrant': False}, ddp_backend='gloo')",
        "A(load_best_model_at_end=True, eval_strategy='steps', save_steps=100, eval_steps=50, save_total_limit=3)",
        "A(load_best_model_at_end=True, save_strategy='best', eval_strategy='steps', note=1)\n",
        "A(save_strategy='steps', save_total_limit=limit, fp16=False, bf16=True)",
        "DPOTrainer(model=m, peft_config=None)",
        "m = PeftModel.from_pretrained(b, a, is_trainable=True)\nDPOTrainer(model=m)",
        "m = PeftModel.from_pretrained(b, a).merge_and_unload()",
        "def a(m):\n    return m.merge_and_unload()\ndef b(m):\n    SFTTrainer(model=m)",
        "T = '{% generation %}x{% endgeneration %}'\nSFTConfig(assistant_only_loss=True)",
        "m.enable_input_require_grads()\n" + REENTRANT,
        "A(padding_free=True, packing=True, max_length=1024)",
    ],
)
def test_a_sound_set_is_left_alone(text: str) -> None:
    assert [row for row in found(text) if "save_strategy" not in row] == []


def test_only_what_the_entry_imports_is_judged() -> None:
    assert found("import used", used="A(fp16=True, bf16=True)") == (
        "used.py:1: fp16=True with bf16=True: transformers refuses it: at most one of both",
    )
    assert found("", unused="A(fp16=True, bf16=True)") == ()


def test_save_steps_are_read_where_they_stand() -> None:
    text = "def common(config):\n    return {'save_steps': config.every}\nA(**common(c))\nB(save_steps=500)"
    assert options.save_steps(package(text), "train.py") == {"train.py:4": 500}


@pytest.mark.slow
def test_the_table_is_true_of_the_installed_libraries() -> None:
    """Every option that the table calls gone is gone, and every combination that is said to be refused is refused."""
    import transformers
    import trl

    owners = {name: getattr(trl, name, None) or getattr(transformers, name) for name in options._GONE_OPTIONS}
    for name, gone in options._GONE_OPTIONS.items():
        owner = owners[name]
        known = (
            {field.name for field in dataclasses.fields(owner)}
            if dataclasses.is_dataclass(owner)
            else set(inspect.signature(owner).parameters)
        )
        assert not known & set(gone), f"{name} has {known & set(gone)}"
        assert {instead.split()[0] for instead in gone.values() if instead and not instead[0].isupper()} <= known
    assert not hasattr(trl, "DataCollatorForCompletionOnlyLM")
    for refused in (
        {"load_best_model_at_end": True, "eval_strategy": "no", "save_strategy": "steps"},
        {"load_best_model_at_end": True, "eval_strategy": "steps", "save_steps": 100, "eval_steps": 30},
        {"fp16": True, "bf16": True},
    ):
        with pytest.raises(ValueError, match=r"load_best_model_at_end|fp16 and bf16"):
            transformers.TrainingArguments(output_dir="x", use_cpu=True, **refused)
