"""Option pairs that are known to fail together, as a table; found in the scripts' syntax trees. Pure.

Each row says what happens, and where that is known from: measured with transformers 5.23, trl 1.16
and peft 0.21, or raised by their source, or a public thread. Only values that stand in the text are
judged; what a script computes is judged by the log of the run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.static import script
from harness.static.flow import Fate, fate, model_of, scope
from harness.static.script import PythonScript
from harness.static.sources import Sources, is_requirements

_UNREAD: Final = object()
"""The value of an option that the text does not tell."""

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Forbidden:
    """One row: ``holds`` is asked with the options of one call, by name."""

    pair: str
    reason: str
    holds: Callable[[str, Options], bool]


def _is(options: Options, name: str, *values: object) -> bool:
    value = options.get(name)
    return any(type(value) is type(wanted) and value == wanted for wanted in values)


def _given(options: Options, name: str) -> bool:
    return name in options and options[name] is not None and options[name] is not False


def _number(options: Options, name: str) -> float | None:
    value = options.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _reentrant(options: Options) -> bool:
    value = options.get("gradient_checkpointing_kwargs")
    return isinstance(value, dict) and value.get("use_reentrant") is True


def _save_apart_from_eval(_: str, options: Options) -> bool:
    if not _is(options, "load_best_model_at_end", True) or _is(options, "save_strategy", "best"):
        return False
    evaluated, saved = options.get("eval_strategy", "no"), options.get("save_strategy", "steps")
    if evaluated is _UNREAD or saved is _UNREAD:
        return False
    if evaluated != saved:
        return True
    every, seen = _number(options, "save_steps"), _number(options, "eval_steps")
    return evaluated == "steps" and bool(every and seen and every % seen)


_GONE_OPTIONS: Final = {
    "SFTConfig": (
        {"max_seq_length": "max_length", "evaluation_strategy": "eval_strategy", "overwrite_output_dir": ""}
        | {"group_by_length": "train_sampling_strategy", "logging_dir": "", "warmup_ratio": "warmup_steps below 1"}
    ),
    "DPOConfig": (
        {"max_prompt_length": "max_length", "max_completion_length": "max_length", "reference_free": ""}
        | {"evaluation_strategy": "eval_strategy", "overwrite_output_dir": "", "warmup_ratio": "warmup_steps below 1"}
    ),
    "TrainingArguments": {"evaluation_strategy": "eval_strategy", "overwrite_output_dir": "", "logging_dir": ""},
    "SFTTrainer": {"tokenizer": "processing_class", "dataset_text_field": "SFTConfig", "max_seq_length": "SFTConfig"},
    "DPOTrainer": {"tokenizer": "processing_class", "beta": "DPOConfig"},
}
"""Options that transformers 5 and trl 1 no longer have, and what took their place."""

_OLDER: Final = re.compile(
    r"^\s*(?:transformers\s*(?:==|~=|<=?)\s*(?:[0-4]\.|5\.?0*\s*$)|trl\s*(?:==|~=|<=?)\s*0\.)", re.MULTILINE
)
"""A requirement of a version that still has them; what that one refuses, the smoke run tells."""

TABLE: Final[tuple[Forbidden, ...]] = (
    Forbidden(
        "use_reentrant=True with ddp_* options",
        'DDP with reentrant checkpointing stops with "Expected to mark a variable ready only once"',
        lambda _, options: _reentrant(options) and any(name.startswith("ddp_") for name in options),
    ),
    Forbidden(
        "load_best_model_at_end=True with saving apart from evaluating",
        "transformers refuses it: both strategies must match and save_steps be a multiple of eval_steps",
        _save_apart_from_eval,
    ),
    Forbidden(
        "load_best_model_at_end=True with save_total_limit=1",
        "checkpoints were all deleted (transformers issue 25136); keep at least two",
        lambda _, options: _is(options, "load_best_model_at_end", True) and _is(options, "save_total_limit", 1),
    ),
    Forbidden(
        "save_total_limit below 2 with checkpoints to resume from",
        "a kill while the only checkpoint is replaced leaves none that is complete",
        lambda _, options: _is(options, "save_total_limit", 0, 1) and not _is(options, "save_strategy", "no"),
    ),
    Forbidden(
        "training with save_strategy other than steps",
        "checkpoints must come every so many steps: an epoch is too much to lose with the instance",
        lambda _, options: _is(options, "save_strategy", "epoch", "no", "best"),
    ),
    Forbidden(
        "fp16=True with bf16=True",
        "transformers refuses it: at most one of both",
        lambda _, options: _is(options, "fp16", True) and _is(options, "bf16", True),
    ),
    Forbidden(
        "completion_only_loss=True with formatting_func",
        "trl refuses it: the formatter turns prompt and completion into one text",
        lambda _, options: _is(options, "completion_only_loss", True) and _given(options, "formatting_func"),
    ),
    Forbidden(
        "padding_free=True with max_length and without packing",
        "trl refuses it: max_length is not enforced there",
        lambda _, options: (
            _is(options, "padding_free", True)
            and not _given(options, "packing")
            and _number(options, "max_length") is not None
        ),
    ),
)


def find(sources: Sources, entry: str) -> tuple[str, ...]:
    """Every forbidden pair in the entry script and the modules it imports, as ``file:line: pair: why``."""
    scripts = sources.reachable(entry)
    tables = _returned_tables(scripts)
    wired = any(callee.endswith("enable_input_require_grads") for code in scripts.values() for callee in _callees(code))
    marked = _has_generation_marks(scripts, sources)
    gone = {} if _pins_older(sources) or any(map(_patches_trl, scripts.values())) else _GONE_OPTIONS
    found: list[str] = []
    for name, code in scripts.items():
        rows = [*_in_calls(code, tables, gone), *_gone_imports(code)]
        rows += [*_frozen_adapter(code), *_merged_then_trained(code)]
        rows += _base_as_reference(code)
        rows += [] if marked else _unmarked_template(code, tables)
        rows += [] if wired else _reentrant_by_hand(code)
        found += [f"{name}:{line}: {pair}: {reason}" for line, pair, reason in sorted(rows)]
    return tuple(found)


def save_steps(sources: Sources, entry: str) -> dict[str, int]:
    """Every ``save_steps`` that stands as a number in the scripts, by place."""
    scripts = sources.reachable(entry)
    tables = _returned_tables(scripts)
    return {
        f"{name}:{call.lineno}": int(value)
        for name, code in scripts.items()
        for call in code.calls
        if (value := _number(_options(call, tables), "save_steps")) is not None
    }


Row = tuple[int, str, str]

_BASE_AS_REFERENCE: Final = (
    "the base model becomes the reference instead of the SFT adapter: load the SFT adapter with is_trainable=True "
    "and give no peft_config, or merge it first"
)
_GOES_ON: Final = {Fate.TRAINED, Fate.RETURNED}


def _in_calls(
    code: PythonScript, tables: Mapping[str, Options], gone_options: Mapping[str, Mapping[str, str]]
) -> Iterator[Row]:
    for call in code.calls:
        if not call.keywords:
            continue
        callee = script.callee(call.func).rpartition(".")[2]
        options = _options(call, tables)
        yield from ((call.lineno, row.pair, row.reason) for row in TABLE if row.holds(callee, options))
        gone = gone_options.get(callee, {})
        for name in gone.keys() & options.keys():
            hint = f"; use {gone[name]}" if gone[name] else ""
            yield call.lineno, f"{callee} with {name}", f"the installed trl and transformers have no such option{hint}"


def _patches_trl(code: PythonScript) -> bool:
    """True with Unsloth, which gives trl's trainers back the options that they had."""
    modules = (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in code.imports)
    return any((module or "").partition(".")[0] == "unsloth" for module in modules)


def _gone_imports(code: PythonScript) -> Iterator[Row]:
    for node in code.imports:
        if any(alias.name == "DataCollatorForCompletionOnlyLM" for alias in node.names):
            yield (
                node.lineno,
                "DataCollatorForCompletionOnlyLM with trl",
                "trl has none; use prompt and completion columns",
            )


def _frozen_adapter(code: PythonScript) -> Iterator[Row]:
    """An adapter that is loaded frozen and then trained: not one that is merged, evaluated, or a reference."""
    if not any(callee.endswith("Trainer") for callee in _callees(code)):
        return
    for call in code.calls:
        if script.callee(call.func).split(".")[-2:] != ["PeftModel", "from_pretrained"]:
            continue
        options = _options(call, {})
        if not options.get("is_trainable") and "**" not in options and fate(call, code) in _GOES_ON:
            yield (
                call.lineno,
                "PeftModel.from_pretrained without is_trainable=True before a Trainer",
                'the adapter is frozen: "element 0 of tensors does not require grad"',
            )


def _merged_then_trained(code: PythonScript) -> Iterator[Row]:
    """A function that merges its adapter away and then goes on to train, without a new one."""
    for merge in code.calls:
        if not (isinstance(merge.func, ast.Attribute) and merge.func.attr == "merge_and_unload"):
            continue
        names = {ast.unparse(store.target) for store in code.stores if store.value is merge}
        names.add(ast.unparse(merge.func.value))
        around = scope(merge, code)
        later = [call for call in code.calls if call.lineno > merge.lineno and scope(call, code) is around]
        renewed = any(script.callee(call.func).endswith(("get_peft_model", "add_adapter")) for call in later)
        trained = any(
            script.callee(call.func).endswith("Trainer")
            and not _given(_options(call, {}), "peft_config")
            and (model := model_of(call)) is not None
            and ast.unparse(model) in names
            for call in later
        )
        if trained and not renewed:
            yield (
                merge.lineno,
                "merge_and_unload before training",
                'no adapter is left to train: "element 0 of tensors does not require grad"',
            )


def _base_as_reference(code: PythonScript) -> Iterator[Row]:
    """DPO of a new adapter on the base, after SFT trained another; one that was merged into the base is no more."""
    if any(callee.endswith("merge_and_unload") for callee in _callees(code)):
        return
    for call in code.calls:
        given = next((keyword.value for keyword in call.keywords if keyword.arg == "peft_config"), None)
        if script.callee(call.func).endswith("DPOTrainer") and _makes_a_config(given, code):
            yield call.lineno, "DPOTrainer with peft_config", _BASE_AS_REFERENCE


def _makes_a_config(value: ast.expr | None, code: PythonScript) -> bool:
    """True for ``LoraConfig(...)`` and for a name of it; what a function finds out may as well be None."""
    stored = [
        store.value for store in code.stores if value is not None and ast.unparse(store.target) == ast.unparse(value)
    ]
    return any(isinstance(one, ast.Call) and script.callee(one.func).endswith("Config") for one in (value, *stored))


def _unmarked_template(code: PythonScript, tables: Mapping[str, Options]) -> Iterator[Row]:
    for call in code.calls:
        if _is(_options(call, tables), "assistant_only_loss", True):
            yield (
                call.lineno,
                "assistant_only_loss=True with a chat template without generation marks",
                "the template of DeepSeek-R1-Distill has none, and trl stops",
            )


def _reentrant_by_hand(code: PythonScript) -> Iterator[Row]:
    for call in code.calls:
        if script.callee(call.func).endswith("gradient_checkpointing_enable") and _reentrant(_options(call, {})):
            yield (
                call.lineno,
                "reentrant gradient checkpointing without enable_input_require_grads",
                '"element 0 of tensors does not require grad"',
            )


def _options(call: ast.Call, tables: Mapping[str, Options]) -> dict[str, Any]:
    """The keywords of a call by name; ``**f(...)`` is filled in when ``f`` returns one table that can be read."""
    options: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is not None:
            options[keyword.arg] = _value(keyword.value)
        elif isinstance(keyword.value, ast.Dict):
            options |= _table(keyword.value)
        else:
            inner = keyword.value
            name = script.callee(inner.func).rpartition(".")[2] if isinstance(inner, ast.Call) else ""
            options |= tables.get(name, {"**": _UNREAD})
    return options


def _returned_tables(scripts: Mapping[str, PythonScript]) -> dict[str, Options]:
    """Options returned by functions whose result is spread with ``**`` in a call, by the function's name."""
    spread = {
        script.callee(keyword.value.func).rpartition(".")[2]
        for code in scripts.values()
        for call in code.calls
        for keyword in call.keywords
        if keyword.arg is None and isinstance(keyword.value, ast.Call)
    }
    tables: dict[str, Options] = {}
    for code in scripts.values():
        for function in code.functions:
            if function.name not in spread:
                continue
            returned = [node.value for node in script.nodes(function) if isinstance(node, ast.Return)]
            if len(returned) == 1 and isinstance(returned[0], ast.Dict):
                tables[function.name] = _table(returned[0])
    return tables


def _table(table: ast.Dict) -> dict[str, Any]:
    pairs = zip(table.keys, table.values, strict=True)
    return {str(key.value): _value(value) for key, value in pairs if isinstance(key, ast.Constant)}


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return _UNREAD


def _callees(code: PythonScript) -> Iterator[str]:
    return (script.callee(call.func) for call in code.calls)


def _pins_older(sources: Sources) -> bool:
    return any(_OLDER.search(text) for name, text in sources.texts.items() if is_requirements(name))


def _has_generation_marks(scripts: Mapping[str, PythonScript], sources: Sources) -> bool:
    """True when a chat template in the package marks which turns are the assistant's."""
    texts = (*sources.texts.values(), *(text for code in scripts.values() for text in code.strings))
    return any("{% generation" in text or "{%- generation" in text for text in texts)
