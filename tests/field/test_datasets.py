"""Training rows as people have them: what is read, what is refused, what must not be learned and what only looks so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts.dataset import judging, phrases, rows, sound
from harness.artifacts.dataset.contract import Teaching
from harness.core.errors import BadInput
from harness.core.verdict import Verdict
from tests.field.case import field_case
from tests.training.conftest import PACKAGE  # the package's own directory is a root of imports

assert PACKAGE.is_dir()
Row = dict[str, Any]
OWN = "own: what a package must read or refuse, and the gate with it"
FOREX = "memoriesdead/forex: vastai_llm_training/data/forex_integrated/real_dpo_pairs.jsonl"
BRIDGE = "memoriesdead/forex: scripts/create_llm_forex_bridge.py"
ROWS, BROKEN = 60, 6


def example(number: int) -> Row:
    up = number % 2 == 0
    prompt = f"Signal {number}: EURUSD, rsi_14: {number * 7919 % 1000 / 10}, vol_20: 0.{number * 104729 % 10**6:06d}."
    return {"prompt": f"{prompt} Where to?", "completion": f"The trend decides.\n\nDirection: {'UP' if up else 'DOWN'}"}


def pair(number: int) -> Row:
    row = example(number)
    answer = row.pop("completion")
    return row | {"chosen": answer, "rejected": answer.replace("UP", "x").replace("DOWN", "UP").replace("x", "DOWN")}


def chat(number: int) -> Row:
    row = example(number)
    turns = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": f"Yes, {number}."}]
    asked = {"role": "user", "content": row["prompt"]}
    return {"messages": [*turns, asked, {"role": "assistant", "content": row["completion"]}]}


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), "utf-8")
    return path


def flawed(folder: Path, lines: list[Row], teaching: Teaching) -> dict[str, sound.Flaw]:
    read = rows.read(write(folder / "real.jsonl", lines), teaching)
    assert not read.defects
    return {flaw.rule: flaw for flaw in sound.judge([read])}


WORDS = [
    # A value that was never rendered.
    field_case("spec-without-braces", FOREX, "prompt", "\n  ask: 0.915390\n  timestamp: .6f\n", "unrendered_value"),
    field_case("spec-with-sign", "own: f-string cut in two", "prompt", " ret_5: +.4f, vol", "unrendered_value"),
    field_case("thousands", "own: f-string cut in two", "prompt", " Volume: ,.0f of the day", "unrendered_value"),
    field_case("dollars", "own: a price's spec", "completion", " Target: $.2f for now", "unrendered_value"),
    field_case("bold-label", "own: markdown labels", "prompt", " **Close:** .5f today", "unrendered_value"),
    field_case("half-brace", "own: a brace lost", "prompt", " close: .4f} and", "unrendered_value"),
    field_case("assigned", "own: a list of k=v", "prompt", " ret_1=.6f\n", "unrendered_value"),
    field_case("braces-anonymous", "own: str.format never called", "prompt", " at {:.2f} now", "unrendered_value"),
    field_case("braces-empty", "own: str.format never called", "prompt", "\nPrice: {} at noon", "unrendered_value"),
    field_case(
        "braces-named", "own: str.format never called", "completion", " the {pair_name} rises", "unrendered_value"
    ),
    field_case("percent", "own: % never applied", "prompt", " RSI %0.3f is", "unrendered_value"),
    field_case("percent-named", "own: % never applied", "prompt", " RSI %(rsi).1f is", "unrendered_value"),
    field_case(
        "javascript", "own: a template literal in plain quotes", "prompt", " Close: ${row.close}", "unrendered_value"
    ),
    field_case(
        "jinja",
        "hiyouga/LLaMA-Factory: data/identity.json",
        "completion",
        " I am {{name}}, by {{author}}.",
        "unrendered_value",
    ),
    field_case("placeholder", "own: an author's gap", "prompt", " Close <placeholder> today", "unrendered_value"),
    field_case("insert", "own: an author's gap", "prompt", " Close <insert price here>", "unrendered_value"),
    field_case(
        "code-braces", "own: code that prints", "completion", '\n```python\nprint(f"{x:.2f} {name}")\n```\n', None
    ),
    field_case("code-percent", "own: code without a fence", "completion", '\nprintf("%d %s\\n", n, name);\n', None),
    field_case("code-inline", "own: code in prose", "prompt", " What does `{:.2f}` or `%s` mean?", None),
    field_case("c-literal", "own: a float literal of C", "completion", "\nfloat half = .5f;\n", None),
    field_case("milliseconds", "own: a duration", "prompt", " latency: .3s, dose: .5g, drop: .2% of it", None),
    field_case(
        "latex",
        "hiyouga/LLaMA-Factory: data/kto_en_demo.json",
        "prompt",
        " a sequence {x_n} in [a, b], \\frac{abc}{d}",
        None,
    ),
    field_case(
        "workflow",
        "hiyouga/LLaMA-Factory: data/kto_en_demo.json",
        "prompt",
        "\n  url: https://ghcr.io/${{ github.repository }}",
        None,
    ),
    field_case(
        "scala",
        "hiyouga/LLaMA-Factory: data/glaive_toolcall_en_demo.json",
        "prompt",
        '\nprintln(s"margin: ${p._3}")\n',
        None,
    ),
    # A word where a number belongs.
    field_case("none", "own: a dict's missing value", "prompt", "\nrsi_14: None, macd: 0.2", "not_a_number"),
    field_case("null", "own: JSON's missing value", "prompt", "\nvol_20: null\n", "not_a_number"),
    field_case("undefined", "own: JavaScript's missing value", "prompt", "\nrsi_14: undefined\n", "not_a_number"),
    field_case("nan", "own: pandas' missing value", "prompt", "\nret_20: nan\nret_5: 0.1", "not_a_number"),
    field_case("nan-unit", "own: a mean of nothing", "completion", " The trend of nan points decides.", "not_a_number"),
    field_case("nan-js", "own: 0/0 in JavaScript", "prompt", " change: NaN%", "not_a_number"),
    field_case("infinite", "own: a division by zero", "prompt", " ratio: inf, beta: -Infinity", "not_a_number"),
    field_case(
        "object", "own: a JavaScript object joined to a text", "prompt", " Bar: [object Object]", "not_a_number"
    ),
    field_case(
        "repr",
        "own: a method that was not called",
        "prompt",
        " Bar: <built-in method close of Row object>",
        "not_a_number",
    ),
    field_case(
        "all-rows-none",
        "own: a column that was never there",
        "prompt",
        "\nvpin: None\nofi: 0.2\nbeta: 1.1",
        "not_a_number",
    ),
    field_case(
        "infimum",
        "memoriesdead/forex: vastai_llm_training/data/grpo_forex/all_formulas.jsonl",
        "completion",
        " VaR_a = -inf{x : P(L <= x) >= a} = m",
        None,
    ),
    field_case(
        "np-inf",
        "memoriesdead/forex: vastai_llm_training/data/high_quality_formulas.jsonl",
        "completion",
        "\n    return np.inf\n    return -np.log(2)",
        None,
    ),
    field_case(
        "speaks-of-nan",
        "memoriesdead/forex: vastai_llm_training/data/llm_finetune_samples.jsonl",
        "completion",
        " DataFrame with all features (NaN/inf cleaned)",
        None,
    ),
    field_case(
        "information",
        "memoriesdead/forex: vastai_llm_training/data/llm_finetune_samples.jsonl",
        "completion",
        "\nFunction: information_share of it",
        None,
    ),
    field_case(
        "allergies",
        "own: a word that is the answer",
        "prompt",
        " Age: 54, BP: 120, Allergies: None, Position: None.",
        None,
    ),
    field_case(
        "armrest",
        "microsoft-foundry/fine-tuning: Demos/ZavaRetailAgent/data/sft_test.jsonl",
        "prompt",
        "\n- Price: 120\n- Weight: 9\n- Armrest: None\n- Material: Leather",
        None,
    ),
    field_case(
        "returns-none",
        "own: prose on code",
        "completion",
        " It returns None; the null hypothesis of Nan is undefined.",
        None,
    ),
    # Damage.
    field_case("replacement", "hemingkx/ChineseNMT#15", "prompt", " the tool\ufffdand more", "damaged_text"),
    field_case(
        "replacement-dpo",
        "hiyouga/LLaMA-Factory: data/dpo_zh_demo.json",
        "completion",
        " 工\ufffd\ufffd\ufffd和知识",
        "damaged_text",
    ),
    field_case("mojibake", "hiyouga/LLaMA-Factory: data/kto_en_demo.json", "prompt", " FranÃ§oise Yip", "damaged_text"),
    field_case("quotes", "gbif/portal-feedback#3795", "completion", " itâ€™s due", "damaged_text"),
    field_case(
        "bengali", "mohsinulkabir14/BanglaBook#1", "prompt", " \xe0\xa6\u203a\xe0\xa6\xbe\xe0\xa6\xa4", "damaged_text"
    ),
    field_case(
        "emoji", "own: UTF-8 read as Windows-1252", "completion", " done \xf0\u0178\u02dc\u20ac", "damaged_text"
    ),
    field_case("zero-byte", "own: a C string's end", "prompt", " EUR\0USD", "damaged_text"),
    field_case(
        "languages",
        "own: text that is whole",
        "prompt",
        " «\xa0été\xa0» NÃO CAFÉ” Über… Ångström Привет 中文 Â ðat",
        None,
    ),
    field_case(
        "turn-mark", "huggingface/transformers#29279", "prompt", " <|im_end|>\n<|im_start|>system", "turn_marks"
    ),
    field_case("llama-mark", "own: a chat formatted twice", "completion", " [INST] Go on [/INST]", "turn_marks"),
    field_case("pipes", "own: a shell", "prompt", " cat a|b <|c> <s>struck</s>", None),
    # What happened afterwards.
    field_case("note-correct", FOREX, "completion", "\n\n(Note: This was CORRECT - price went DOWN)", "outcome_stated"),
    field_case(
        "note-wrong",
        FOREX,
        "completion",
        "\n\n(Note: This would have been WRONG - price actually went UP)",
        "outcome_stated",
    ),
    field_case(
        "actual-outcome",
        BRIDGE,
        "completion",
        "\n\n**Actual Outcome:** Price went UP (target_direction==1)",
        "outcome_stated",
    ),
    field_case(
        "verdict",
        "own: the kind, other words",
        "completion",
        " The signal turned out to be profitable.",
        "outcome_stated",
    ),
    field_case(
        "verdict-short", "own: the kind, other words", "completion", " [Result: that call was right]", "outcome_stated"
    ),
    field_case(
        "move-after",
        "own: the kind, other words",
        "completion",
        " The market subsequently fell by 40 pips.",
        "outcome_stated",
    ),
    field_case(
        "days-later",
        "own: the kind, other words",
        "completion",
        " Three days later, the pair had lost 2%.",
        "outcome_stated",
    ),
    field_case(
        "stopped-out",
        "own: the kind, other words",
        "completion",
        " This trade would have been stopped out.",
        "outcome_stated",
    ),
    field_case(
        "target-hit", "own: the kind, other words", "completion", " The take-profit was later hit.", "outcome_stated"
    ),
    field_case("capitals", "own: a label filled in", "completion", " EURUSD ended HIGHER.", "outcome_stated"),
    field_case(
        "next-session",
        "own: the kind, other words",
        "completion",
        " The rate rose over the following sessions.",
        "outcome_stated",
    ),
    field_case(
        "hindsight",
        "own: the kind, other words",
        "completion",
        " With the benefit of hindsight, a clear short.",
        "outcome_stated",
    ),
    field_case("realized", "own: the kind, other words", "prompt", " Realized return: +0.8%.", "outcome_stated"),
    field_case("prompt-outcome", "own: a label left in the question", "prompt", "\nOutcome: DOWN", "outcome_stated"),
    field_case(
        "yesterday", "own: an ordinary prompt", "prompt", " The price went up yesterday and fell 2% last week.", None
    ),
    field_case(
        "history", "own: an ordinary prompt", "prompt", " In March the ECB cut; the next day the pair rose.", None
    ),
    field_case(
        "reasoning",
        "own: an ordinary answer",
        "completion",
        " The price rose over the last 5 days, then fell back; the 20-day trend was right.",
        None,
    ),
    field_case(
        "plan",
        "own: an ordinary answer",
        "completion",
        " If the stop was hit, or the target is reached, the trade is closed at a loss or a profit.",
        None,
    ),
    field_case(
        "slip",
        "own: a reasoning that mends itself",
        "completion",
        " Wait, that was wrong: 12 times 3 is 36. My first idea was wrong.",
        None,
    ),
    field_case(
        "record",
        "own: an ordinary answer",
        "completion",
        " Historically this signal was correct 55% of the time.",
        None,
    ),
    field_case(
        "forecast",
        "own: an ordinary answer",
        "completion",
        " The next day the pair may rise; I judge a rise likelier than not.",
        None,
    ),
    field_case(
        "note-plain",
        "own: an ordinary answer",
        "completion",
        " (Note: this is no advice. Risk 1% at most.) **Note:** volume was low.",
        None,
    ),
    field_case(
        "result-with-amount",
        "own: a label told, other words",
        "completion",
        " Result: WIN (+32 pips).",
        "outcome_stated",
    ),
    field_case(
        "exit-with-gain",
        "own: a label told, other words",
        "completion",
        " Entry was at 1.0850, exit at 1.0900 for +50 pips.",
        "outcome_stated",
    ),
    field_case("final-pnl", "own: a label told, other words", "completion", " Final P/L: -25 pips.", "outcome_stated"),
    field_case(
        "closed-at", "own: a label told, other words", "completion", " Trade closed at +1.2R.", "outcome_stated"
    ),
    field_case("truth", "own: a label told, other words", "completion", " Ground truth: UP.", "outcome_stated"),
    field_case(
        "true-label", "own: a label told, other words", "completion", " The true label is DOWN.", "outcome_stated"
    ),
    field_case(
        "proved",
        "own: a label told, other words",
        "completion",
        " The market proved this analysis right.",
        "outcome_stated",
    ),
    field_case(
        "now-known",
        "own: a label told, other words",
        "completion",
        " As we now know, the euro collapsed.",
        "outcome_stated",
    ),
    field_case(
        "happened",
        "own: a label told, other words",
        "completion",
        " What actually happened: price fell.",
        "outcome_stated",
    ),
    field_case(
        "looking-back",
        "own: a label told, other words",
        "completion",
        " Looking back, shorting was the right decision.",
        "outcome_stated",
    ),
    field_case(
        "winning-trade", "own: a label told, other words", "completion", " This was a winning trade.", "outcome_stated"
    ),
    field_case(
        "avoided",
        "own: a label told, other words",
        "completion",
        " Vetoing this trade avoided a loss of 30 pips.",
        "outcome_stated",
    ),
    field_case(
        "hit-its-stop",
        "own: a label told, other words",
        "completion",
        " The trade hit its stop loss.",
        "outcome_stated",
    ),
    field_case(
        "hours-later",
        "own: a label told, other words",
        "completion",
        " In the following 24 hours, the price increased by 0.4%.",
        "outcome_stated",
    ),
    field_case(
        "reached-after",
        "own: a label told, other words",
        "completion",
        " Price reached 1.1050 two days after this signal.",
        "outcome_stated",
    ),
    field_case(
        "future-column",
        "own: a column of labels in the features",
        "prompt",
        " future_return_5: 0.0043",
        "outcome_stated",
    ),
    field_case(
        "target-column",
        "own: a column of labels in the features",
        "prompt",
        " target_direction_10: 1",
        "outcome_stated",
    ),
    field_case("next-close", "own: a column shifted the wrong way", "prompt", " next_close=1.0921", "outcome_stated"),
    field_case(
        "tomorrow", "own: a column shifted the wrong way", "prompt", " Tomorrow's close: 1.09", "outcome_stated"
    ),
    field_case(
        "correct-direction", "own: a label left in the question", "prompt", " Correct direction: UP", "outcome_stated"
    ),
    field_case(
        "features",
        "own: features that speak of the future, and plans",
        "prompt",
        " target_price: 1.12, forward_pe: 22.5, next_earnings: 3, Target: 1.15",
        None,
    ),
    field_case(
        "condition-on-price",
        "own: what follows from a price",
        "completion",
        " If price had moved up, the position would have lost money.",
        None,
    ),
    field_case(
        "string-template", "own: a template that was not rendered", "prompt", " Price: $price today", "unrendered_value"
    ),
    field_case(
        "jinja-block",
        "own: a template that was not rendered",
        "prompt",
        " {% if up %}rising{% endif %}",
        "unrendered_value",
    ),
    field_case("angle", "own: a template that was not rendered", "prompt", " Price: <PRICE>", "unrendered_value"),
    field_case("bracket", "own: a template that was not rendered", "prompt", " Price: [TODO]", "unrendered_value"),
    field_case(
        "look-up", "own: a template that was not rendered", "prompt", " Price: {row['close']}", "unrendered_value"
    ),
    field_case("call", "own: a template that was not rendered", "prompt", " of {len(df)} bars", "unrendered_value"),
    field_case(
        "choice",
        "own: a template that was not rendered",
        "prompt",
        " a {'UP' if x else 'DOWN'} trend",
        "unrendered_value",
    ),
    field_case(
        "spec-without-colon", "own: a template that was not rendered", "prompt", " with close .5f", "unrendered_value"
    ),
    field_case(
        "spec-in-table", "own: a template that was not rendered", "prompt", "\n| close | .4f |", "unrendered_value"
    ),
    field_case(
        "redacted",
        "own: letters and redacted texts",
        "completion",
        " Dear [Your Name], <NAME> has called; reply to [EMAIL].",
        None,
    ),
    field_case("numpy-2", "own: numpy 2 prints its scalars so", "prompt", " Close: np.float64(1.085)", "not_a_number"),
    field_case("spreadsheet", "own: an exported sheet", "prompt", " RSI: #N/A", "not_a_number"),
    field_case(
        "bash",
        "sahil280114/codealpaca: data/new_codealpaca.json",
        "completion",
        '\n#!/bin/bash\nnum=$(find . | wc -l)\necho "Files: ${num}"\nstat -c %s x\n',
        None,
    ),
    field_case(
        "date", "sahil280114/codealpaca: data/new_codealpaca.json", "completion", " date '+%Y-%m-%d %H:%M:%S'", None
    ),
    field_case(
        "curl",
        "sahil280114/codealpaca: data/new_codealpaca.json",
        "completion",
        " curl -s -o /dev/null -w '%{http_code}' \"$url\"",
        None,
    ),
    field_case(
        "f-string-cut",
        "sahil280114/codealpaca: data/new_codealpaca.json",
        "completion",
        "\nprint(f'Word: {word}\nFrequency: {freq}')\nimport os\n",
        None,
    ),
    field_case(
        "f-string-inline",
        "sahil280114/codealpaca: data/new_codealpaca.json",
        "prompt",
        " def greet(name): return f'Hello, {name}'",
        None,
    ),
    field_case(
        "template-literal",
        "sahil280114/codealpaca: data/new_codealpaca.json",
        "completion",
        " console.log(`Title: ${data.title}`)",
        None,
    ),
    field_case(
        "endpoint",
        "sahil280114/codealpaca: data/new_codealpaca.json",
        "prompt",
        " an endpoint (https://api.example.com/v1/users/{user_id})",
        None,
    ),
    field_case(
        "html",
        "sahil280114/codealpaca: data/code_alpaca_2k.json",
        "completion",
        "\n<ul>\n  <li>\n    {{book.title}}\n  </li>\n</ul>",
        None,
    ),
    field_case(
        "news",
        "microsoft-foundry/fine-tuning: Demos/SFT_CNN_DailyMail/validation.jsonl",
        "prompt",
        " He admitted: 'In hindsight, maybe he did go too far.'",
        None,
    ),
    field_case(
        "meeting",
        "hiyouga/LLaMA-Factory: data/reason_tool_use_demo_50.json",
        "prompt",
        "\n   - Outcome: Positive, interested in future work",
        None,
    ),
    field_case(
        "few-shot",
        "own: worked examples",
        "prompt",
        "\nText: a\nLabel: POS\nText: b\nLabel: NEG\nText: c\nLabel:",
        None,
    ),
    field_case(
        "label-beside-decision",
        "own: a label told, without an amount",
        "completion",
        " Trade outcome: LOSS.",
        "outcome_stated",
    ),
    field_case(
        "label-bold",
        "own: a label told, without an amount",
        "completion",
        "\n**Trade Result:** Winner",
        "outcome_stated",
    ),
    field_case(
        "label-plain", "own: a label told, without an amount", "completion", " Outcome: profit.", "outcome_stated"
    ),
    field_case(
        "label-verdict",
        "own: a label told, without an amount",
        "completion",
        " Final verdict: correct",
        "outcome_stated",
    ),
    field_case(
        "label-in-brackets",
        "own: a label told, without an amount",
        "completion",
        " [Signal result: stopped out]",
        "outcome_stated",
    ),
    field_case("trade-lost", "own: a label told, other words", "completion", " The trade lost.", "outcome_stated"),
    field_case(
        "position-won",
        "own: a label told, other words",
        "completion",
        " Your position eventually won 30 pips.",
        "outcome_stated",
    ),
    field_case(
        "prompt-trade-result", "own: a label left in the question", "prompt", "\nTrade result: LOSS", "outcome_stated"
    ),
    field_case(
        "result-expected", "own: a forecast", "completion", " Most likely outcome: profit. Expected result: win.", None
    ),
    field_case("result-before", "own: a history", "completion", " The previous trade's outcome: loss.", None),
    field_case(
        "prompt-result-before", "own: a history in the features", "prompt", "\nPrevious trade outcome: LOSS", None
    ),
    field_case(
        "prompt-last-outcome",
        "own: a history in the features",
        "prompt",
        "\nOutcome of the last signal and its outcome: WIN",
        None,
    ),
    field_case("result-of", "own: prose", "completion", " Result: loss of momentum; the pair lost its trend.", None),
    field_case("xxx", "own: an author's gap", "prompt", " Close: XXX", "unrendered_value"),
    field_case(
        "xxx-decimal",
        "own: an author's gap",
        "prompt",
        " The price is 1.0921, the stop X.XXXX today",
        "unrendered_value",
    ),
    field_case("xxx-dollar", "own: an author's gap", "completion", " Take $XX.XX of it.", "unrendered_value"),
    field_case("xxx-assigned", "own: an author's gap", "prompt", " rsi=XXX, macd=0.2", "unrendered_value"),
    field_case("xxx-percent", "own: an author's gap", "prompt", " volatility: xx.xx%", "unrendered_value"),
    field_case(
        "percent-name",
        "own: a template of cmd.exe, or of log4j",
        "prompt",
        " The price is %PRICE% now",
        "unrendered_value",
    ),
    field_case(
        "percent-any-name",
        "own: a template that was not rendered",
        "prompt",
        " Volatility: %VOL_20%",
        "unrendered_value",
    ),
    field_case(
        "percent-lower",
        "own: a template that was not rendered",
        "prompt",
        " close %close_price% and",
        "unrendered_value",
    ),
    field_case("at-name", "own: Ant's and CMake's filter", "prompt", " at @price@ the", "unrendered_value"),
    field_case("at-any-name", "own: Ant's and CMake's filter", "prompt", " Drift: @drift.mean@", "unrendered_value"),
    field_case("hashes", "own: a template that was not rendered", "prompt", " the ##CLOSE## of", "unrendered_value"),
    field_case("wiki", "own: a template that was not rendered", "prompt", " at [[ price ]] now", "unrendered_value"),
    field_case(
        "mail-merge", "own: a mail merge that did not run", "prompt", " at «close_price» now", "unrendered_value"
    ),
    field_case(
        "dollars-around", "own: a template that was not rendered", "prompt", " at $PRICE$ now", "unrendered_value"
    ),
    field_case(
        "format-asked",
        "own: a prompt says how to answer",
        "prompt",
        " Answer in the format 'Target: XXX, Stop: <PRICE>'.",
        None,
    ),
    field_case(
        "format-headed",
        "own: a prompt says how to answer",
        "prompt",
        "\nUse this template:\n\nSize: 1\nTarget: X.XXXX\nStop: <PRICE>",
        None,
    ),
    field_case(
        "explains-jinja",
        "own: prose on templates",
        "completion",
        " In Jinja, {{ price }} is replaced by the value of price.",
        None,
    ),
    field_case(
        "explains-percent",
        "own: prose on templates",
        "completion",
        " The placeholder %PRICE% is filled in by the server.",
        None,
    ),
    field_case("explains-at", "own: prose on templates", "completion", " Ant replaces @price@ with its value.", None),
    field_case(
        "roman", "own: a number of another kind", "prompt", " Chapter XXX of the book; Super Bowl XXX; size XXL", None
    ),
    field_case(
        "phone", "own: letters for a number kept back", "prompt", " Phone: XXX-XXX-XXXX, SSN: XXX-XX-XXXX", None
    ),
    field_case("anonymous", "own: a name kept back", "prompt", " Patient: XXX, Name: XXX", None),
    field_case("windows", "own: a variable of Windows", "prompt", " It lies in: %APPDATA% or %USERPROFILE%\\x", None),
    field_case("percents", "own: percent signs", "prompt", " up 2%, down 3%; a 50%/50% chance, 5% high% low", None),
    field_case("sql", "own: SQL's pattern", "prompt", " rows where name like '%price%'", None),
    field_case(
        "handles", "own: names of people", "prompt", " ask @rate@example.social or mail rate@price.example", None
    ),
    field_case("math", "own: a formula", "completion", " with $r$ the rate and $P$ the price, $P_t$ rises", None),
]


@pytest.mark.parametrize(("field", "words", "rule"), WORDS)
def test_words_of_a_tenth_of_the_rows_are_judged(tmp_path: Path, field: str, words: str, rule: str | None) -> None:
    lines = [example(number) for number in range(ROWS)]
    for row in lines[::10]:
        before, break_, answer = row[field].partition("\n\n")
        row[field] = before + words + break_ + answer if field == "completion" else row[field] + words
    found = flawed(tmp_path, lines, Teaching.EXAMPLES)
    assert set(found) == ({rule} if rule else set())
    if rule:
        assert (found[rule].count, found[rule].rows, found[rule].lines[0]) == (BROKEN, ROWS, 1)
        assert str(found[rule]).startswith(f"real.jsonl:1: {rule}: 6 of 60 rows (10.0%)")


@pytest.mark.parametrize("as_ascii", [True, False])
@pytest.mark.parametrize(("field", "words", "rule"), WORDS)
def test_what_a_search_of_the_texts_finds_is_found_in_the_file_at_any_place(
    tmp_path: Path, field: str, words: str, rule: str | None, as_ascii: bool
) -> None:
    """The file is searched in pieces without digits first; nothing may get lost by that."""
    found = set()
    for text in (words, words.strip(), f"7{words}", f"{words} 7.", f"Line.\n{words}\n", f"So: {words}. And so on"):
        path = tmp_path / "real.jsonl"
        both = (json.dumps(row, ensure_ascii=as_ascii) for row in (example(1) | {field: text}, example(0)))
        path.write_text("\n".join(both) + "\n", "utf-8")
        read = rows.read(path, Teaching.EXAMPLES)
        here = {defect.rule for defect in phrases.judge([read])}
        assert read.defects or here >= {one.name for one in phrases.RULES if _finds(one, field, text)}, text
        found |= here
    assert rule is None or rule in found


def _finds(rule: phrases.WordRule, field: str, text: str) -> bool:
    part, asked = ("asked", text) if field == "prompt" else ("learned", example(1)["prompt"])
    return part in rule.parts and rule.search.exact(text, asked) is not None


OUTCOMES = [
    field_case("alone", "own: what nobody asked", "EURUSD, rsi 41: buy or sell?", "Trade outcome: LOSS.", True),
    field_case(
        "no-market-word", "own: what nobody asked", "EURUSD, rsi 41: up or down?", "(Note: this was wrong.)", True
    ),
    field_case("with-decision", "own: asked, and told", "Is a loss near? EURUSD.", "Action: SELL\nOutcome: WIN", True),
    field_case("asked", "own: a label to predict", "EURUSD, long at 1.08: win or loss?", "Outcome: LOSS", False),
    field_case("asked-for-it", "own: a label to predict", "Predict the trade's outcome.", "Trade outcome: LOSS", False),
    field_case("sports", "own: another field's label", "Ajax against PSV.", "Result: win.", False),
    field_case("tool", "own: a report of an agent", "Run the tests.", "Result: success. Outcome: failed.", False),
    field_case("stop-loss", "own: a stop is no outcome", "EURUSD, stop loss 1.07: buy?", "Result: loss.", True),
]


@pytest.mark.parametrize(("prompt", "answer", "told"), OUTCOMES)
def test_an_outcome_is_told_where_nobody_asked_for_one(tmp_path: Path, prompt: str, answer: str, told: bool) -> None:
    both = [{"prompt": f"{prompt} ({number})", "completion": answer} for number in range(4)]
    read = rows.read(write(tmp_path / "real.jsonl", both), Teaching.EXAMPLES)
    assert ("outcome_stated" in {defect.rule for defect in phrases.judge([read])}) is told


ANSWERS = [
    field_case(
        "rate-limit",
        "own: a loop without a check of the status",
        "Error: Rate limit reached for requests",
        "error_as_answer",
    ),
    field_case(
        "json", "own: a body written as it came", '{"error": {"message": "quota", "code": 429}}', "error_as_answer"
    ),
    field_case(
        "http", "own: requests' own words", "HTTP 503 Server Error: Service Unavailable for url", "error_as_answer"
    ),
    field_case(
        "client", "own: a client library's exception", "openai.APIError: Internal server error", "error_as_answer"
    ),
    field_case("overloaded", "own: a busy service", "Error code: 529 - overloaded_error", "error_as_answer"),
    field_case(
        "context", "own: a prompt too long", "This model's maximum context length is 4096 tokens.", "error_as_answer"
    ),
    field_case(
        "html", "own: a proxy's page", "<html><head><title>502 Bad Gateway</title></head></html>", "error_as_answer"
    ),
    field_case(
        "explains", "own: a good answer on an error", "A 429 error means too many requests: wait and try again.", None
    ),
    field_case(
        "explains-briefly", "own: a good answer on an error", "Error 503 means that the service is unavailable.", None
    ),
    field_case("program", "own: what a program prints", "Error: division by zero", None),
]


@pytest.mark.parametrize(("answer", "rule"), ANSWERS)
def test_a_services_error_is_no_answer(tmp_path: Path, answer: str, rule: str | None) -> None:
    lines = [example(number) for number in range(ROWS)]
    for number in range(0, ROWS, 10):
        lines[number]["completion"] = f"{answer} ({number})"
    assert set(flawed(tmp_path, lines, Teaching.EXAMPLES)) == ({rule} if rule else set())


PAIRS: list[Any] = [
    field_case(
        "white-space",
        "OpenRLHF/OpenRLHF#364",
        lambda row: {"rejected": row["chosen"] + " \n"},
        "chosen_equals_rejected",
    ),
    field_case(
        "case", "OpenRLHF/OpenRLHF#364", lambda row: {"rejected": row["chosen"].lower()}, "chosen_equals_rejected"
    ),
    field_case(
        "lines",
        "own: rendered twice",
        lambda row: {"rejected": row["chosen"].replace("\n\n", " ")},
        "chosen_equals_rejected",
    ),
    field_case("sign", "own: a sign is a difference", lambda _: {"chosen": "Bet +1.", "rejected": "Bet -1."}, None),
    field_case(
        "prompt-twice",
        "OpenRLHF/OpenRLHF#909",
        lambda row: {"chosen": f"{row['prompt']} {row['chosen']}"},
        "prompt_in_answer",
    ),
    field_case("prompt-only", "own: an echo", lambda row: {"rejected": row["prompt"]}, "prompt_in_answer"),
    field_case(
        "quotes-it", "own: an answer that begins alike", lambda row: {"chosen": f"Signal: {row['chosen']}"}, None
    ),
]


@pytest.mark.parametrize(("change", "rule"), PAIRS)
def test_pairs_must_leave_something_to_prefer(tmp_path: Path, change: Callable[[Row], Row], rule: str | None) -> None:
    lines = [pair(number) for number in range(ROWS)]
    for number in range(0, ROWS, 10):
        lines[number] |= change(lines[number])
    found = set(flawed(tmp_path, lines, Teaching.PREFERENCES)) - {"answer_in_prompt"}
    assert found == ({rule} if rule else set())


def test_a_few_rows_with_suspect_words_are_said_and_do_not_fail(tmp_path: Path) -> None:
    lines = [example(number) for number in range(200)]
    lines[40]["prompt"] += " timestamp: .6f"
    lines[41]["prompt"] += " rsi_14: nan"
    found = flawed(tmp_path, lines, Teaching.EXAMPLES)
    assert {rule: flaw.beyond for rule, flaw in found.items()} == {"unrendered_value": False, "not_a_number": False}
    assert "1 of 200 rows (0.5%)" in str(found["unrendered_value"])
    strict = sound.DatasetLimits(max_flawed_share=0.004)
    again = sound.judge([rows.read(tmp_path / "real.jsonl", Teaching.EXAMPLES)], limits=strict)
    assert all(flaw.beyond for flaw in again)


def test_the_first_users_kind_of_data_is_flagged_by_name_with_counts(tmp_path: Path) -> None:
    """2,550 pairs as the public generator writes them: 1,425 with a lost value, the outcome told in every one."""
    lines = []
    for number in range(2550):
        up = number % 3 == 0
        went = "UP" if up else "DOWN"
        wrong = f"(Note: This would have been WRONG - price actually went {went})"
        veto = f"**DECISION: VETO**\n\nUncertainty of {number % 97}%."
        stamp = "\n  timestamp: .6f" if number * 19 % 34 < 19 else ""
        lines.append(
            {
                "prompt": f"Analyze this signal:\n  ret_1: 0.{number:06d}\n  ask: {number / 7:.6f}{stamp}\n\nShould I?",
                "chosen": "**DECISION: APPROVE (BUY)**"
                if up
                else f"{veto}\n\n(Note: This was CORRECT - price went {went})",
                "rejected": f"{veto if up else '**DECISION: APPROVE (BUY)**'}\n\n{wrong}",
                "pair": "EURUSD",
                "actual_outcome": int(up),
            }
        )
    found = flawed(tmp_path, lines, Teaching.PREFERENCES)
    counts = {rule: (flaw.count, flaw.rows, flaw.beyond) for rule, flaw in found.items()}
    assert counts == {"unrendered_value": (1425, 2550, True), "outcome_stated": (2550, 2550, True)}
    assert "timestamp: .6f" in str(found["unrendered_value"])
    assert "1425 of 2550 rows (55.9%)" in str(found["unrendered_value"])


GOOD = {"prompt": "Where to?", "completion": "Up."}
PREFERRED = {"prompt": "Where to?", "chosen": "Up.", "rejected": "Down."}
USER, ASSISTANT = {"role": "user", "content": "Where to?"}, {"role": "assistant", "content": "Up."}
MARK = "<\uff5cUser\uff5c>"


def turns(*messages: Row) -> Row:
    return {"messages": list(messages)}


LINES: list[Any] = [
    field_case("good", OWN, GOOD, True),
    field_case(
        "alpaca",
        "tatsu-lab/stanford_alpaca: alpaca_data.json",
        {"instruction": "Go", "input": "a", "output": "b"},
        True,
    ),
    field_case(
        "alpaca-null",
        "own: what pandas writes for a missing text",
        {"instruction": "Go", "input": None, "output": "b"},
        True,
    ),
    field_case(
        "alpaca-empty",
        "tatsu-lab/stanford_alpaca: alpaca_data.json",
        {"instruction": "Go", "input": "", "output": "b"},
        True,
    ),
    field_case("alpaca-blank-input", OWN, {"instruction": "Go", "input": "  ", "output": "b"}, False),
    field_case(
        "alpaca-no-output",
        "tatsu-lab/stanford_alpaca: alpaca_data.json",
        {"instruction": "Go", "input": "", "output": ""},
        False,
    ),
    field_case("alpaca-number-input", OWN, {"instruction": "Go", "input": 7, "output": "b"}, False),
    field_case("chat", OWN, turns(USER, ASSISTANT), True),
    field_case("chat-system", OWN, turns({"role": "system", "content": "Be."}, USER, ASSISTANT), True),
    field_case("exchanges", "own: several exchanges in a row", turns(USER, ASSISTANT, USER, ASSISTANT), False),
    field_case("assistant-first", OWN, turns(ASSISTANT, USER, ASSISTANT), False),
    field_case("system-later", OWN, turns(USER, {"role": "system", "content": "Be."}, ASSISTANT), False),
    field_case("system-empty", OWN, turns({"role": "system", "content": ""}, USER, ASSISTANT), False),
    field_case(
        "assistant-empty", "axolotl-ai-cloud/axolotl#603", turns(USER, {"role": "assistant", "content": ""}), False
    ),
    field_case(
        "content-null", "NVIDIA-NeMo/Megatron-Bridge#5742", turns(USER, {"role": "assistant", "content": None}), False
    ),
    field_case(
        "content-parts", OWN, turns(USER, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}), False
    ),
    field_case("role-missing", OWN, turns(USER, {"content": "Up."}), False),
    field_case("role-odd", OWN, turns(USER, {"role": ["assistant"], "content": "Up."}), False),
    field_case("tool-turn", OWN, turns(USER, {"role": "tool", "content": "7"}, ASSISTANT), False),
    field_case("no-turns", OWN, turns(), False),
    field_case("turns-text", OWN, {"messages": "[]"}, False),
    field_case("messages-null", "own: a table of two shapes", GOOD | {"messages": None}, False),
    field_case("two-shapes", "own: the chat counts", turns(USER, ASSISTANT) | GOOD, True),
    field_case("instruction-first", OWN, GOOD | {"instruction": "Go"}, False),
    field_case("sharegpt", "own: another trainer's shape", {"conversations": [{"from": "human", "value": "a"}]}, False),
    field_case("plain-text", "own: another trainer's shape", {"text": "a"}, False),
    field_case("preference", "own: a pair among the examples", PREFERRED, False),
    field_case("preference-too", OWN, PREFERRED | GOOD, True),
    field_case("number", "own: numbers as numbers", {"prompt": 7, "completion": "b"}, False),
    field_case("number-text", "own: numbers as text", {"prompt": "7", "completion": "8"}, True),
    field_case("null", OWN, {"prompt": None, "completion": "b"}, False),
    field_case("blank", OWN, {"prompt": " \n", "completion": "b"}, False),
    field_case("blank-unicode", OWN, {"prompt": "\u3000\u2028", "completion": "b"}, False),
    field_case("system", OWN, GOOD | {"system": "Be."}, True),
    field_case("system-null", OWN, GOOD | {"system": None}, True),
    field_case("system-number", OWN, GOOD | {"system": 7}, False),
    field_case("pair-list", OWN, GOOD | {"pair": ["EURUSD"]}, False),
    field_case("date-number", OWN, GOOD | {"date": 20200101}, False),
    field_case("other-fields", OWN, GOOD | {"id": 7, "tags": [1, {"a": None}], "price": 1.5}, True),
    field_case("reasoning", OWN, {"prompt": "a", "completion": "<think>\nb\n</think>\n\nc"}, True),
    field_case("reasoning-digit", OWN, {"prompt": "a", "completion": "<think>\nb\n</think>\n\n5"}, True),
    field_case("no-answer", OWN, {"prompt": "a", "completion": "<think>\nb\n</think>\n\n"}, False),
    field_case("no-answer-wide", OWN, {"prompt": "a", "completion": "<think>b</think>\u3000"}, False),
    field_case("never-closed", OWN, {"prompt": "a", "completion": "<think>b"}, False),
    field_case("opened-again", OWN, {"prompt": "a", "completion": "<think>b</think>c<think>d"}, False),
    field_case("opened-twice", OWN, {"prompt": "a", "completion": "<think>b<think>c</think>d"}, True),
    field_case("text-before", OWN, {"prompt": "a", "completion": "So <think>b</think>c"}, False),
    field_case("digit-before", OWN, {"prompt": "a", "completion": "5<think>b</think>c"}, False),
    field_case("closed-only", OWN, {"prompt": "a", "completion": "b</think>c"}, True),
    field_case("space-before", OWN, {"prompt": "a", "completion": " \n<think>b</think>c"}, True),
    field_case("tag-with-digit", OWN, {"prompt": "a", "completion": "<think>b</thi5nk>c"}, False),
    field_case("mark", "own: the template's own marks", {"prompt": f"a {MARK} b", "completion": "c"}, False),
    field_case("mark-answer", OWN, {"prompt": "a", "completion": f"c {MARK}"}, False),
    field_case(
        "mark-raw",
        "own: not escaped",
        json.dumps({"prompt": f"a {MARK}", "completion": "c"}, ensure_ascii=False),
        False,
    ),
    field_case("mark-elsewhere", "own: in a field that is not read", GOOD | {"note": MARK}, True),
    field_case("bars-alone", "own: full-width bars are text", {"prompt": "a \uff5c b", "completion": "c"}, True),
    field_case("five-megabytes", OWN, {"prompt": "a" * (5 << 20), "completion": "b"}, False),
    field_case("at-the-limit", OWN, '{"prompt": "' + "a" * ((1 << 20) - 34) + '", "completion": "b"}', True),
    field_case("over-the-limit", OWN, '{"prompt": "' + "a" * ((1 << 20) - 33) + '", "completion": "b"}', False),
    field_case("twice", "own: a name twice", '{"prompt": "a", "completion": "b", "completion": "c"}', False),
    field_case("twice-first", "own: a name twice", '{"prompt": "a", "prompt": "b", "completion": "c"}', False),
    field_case("twice-elsewhere", OWN, '{"prompt": "a", "completion": "c", "more": {"x": 1, "x": 2}}', False),
    field_case("twice-escaped", OWN, '{"prompt": "a", "\\u0070rompt": "b", "completion": "c"}', False),
    field_case("quotes-inside", OWN, {"prompt": 'say "a"', "completion": '"b"'}, True),
    field_case(
        "half-character", "own: cut inside a surrogate pair", '{"prompt": "a \\ud83d", "completion": "b"}', False
    ),
    field_case(
        "half-elsewhere", "own: in a field that is not read", '{"prompt": "a", "completion": "b", "x": "\\ud83d"}', True
    ),
    field_case("whole-character", OWN, '{"prompt": "\\ud83d\\ude00", "completion": "b"}', True),
    field_case("nan", OWN, '{"prompt": "a", "completion": "b", "x": NaN}', False),
    field_case("huge-number", OWN, '{"prompt": "a", "completion": "b", "x": 1e999}', True),
    field_case("deep", OWN, '{"prompt": "a", "completion": "b", "x": ' + "[" * 300 + "]" * 300 + "}", True),
    field_case("bottomless", OWN, '{"prompt": "a", "completion": "b", "x": ' + "[" * 10**5 + "]" * 10**5 + "}", False),
    field_case("array", OWN, '[{"prompt": "a", "completion": "b"}]', False),
    field_case("text", OWN, '"prompt completion"', False),
    field_case("nothing", "own: a blank line", "", False),
    field_case("spaces", OWN, "   ", False),
    field_case("carriage-return", "own: Windows' line ends", '{"prompt": "a", "completion": "b"}\r', True),
    field_case("byte-order-mark", "own: Notepad", "\ufeff" + '{"prompt": "a", "completion": "b"}', False),
    field_case("two-values", OWN, '{"prompt": "a", "completion": "b"} {}', False),
    field_case("single-quotes", "own: Python's repr", "{'prompt': 'a', 'completion': 'b'}", False),
    field_case("trailing-comma", OWN, '{"prompt": "a", "completion": "b",}', False),
    field_case("tab-inside", "own: a raw tab", '{"prompt": "a\tb", "completion": "c"}', False),
    field_case("not-utf8", "own: Latin-1", b'{"prompt": "\xe9", "completion": "b"}', False),
    field_case("surrogate-bytes", "own: CESU-8", b'{"prompt": "\xed\xa0\xbd", "completion": "b"}', False),
    field_case("zero-byte", "own: UTF-16", b'{\0"prompt": "a", "completion": "b"}', False),
    field_case("zero-escaped", OWN, '{"prompt": "a\\u0000", "completion": "b"}', True),
]

PAIR_LINES: list[Any] = [
    field_case("pair", OWN, PREFERRED, True),
    field_case("example", "own: an example among the pairs", GOOD, False),
    field_case("chat", OWN, turns(USER, ASSISTANT), False),
    field_case("equal", "OpenRLHF/OpenRLHF#364", PREFERRED | {"rejected": "Up."}, False),
    field_case(
        "equal-reasoning",
        "own: equal as they are learned",
        PREFERRED | {"chosen": "<think>\na</think>b", "rejected": "a</think>b"},
        False,
    ),
    field_case("space-differs", "own: said by the rules on words", PREFERRED | {"rejected": "Up. "}, True),
    field_case("rejected-empty", OWN, PREFERRED | {"rejected": ""}, False),
    field_case(
        "turns", "own: TRL's conversational shape", PREFERRED | {"chosen": [ASSISTANT], "rejected": [ASSISTANT]}, False
    ),
    field_case("pair-field-number", "own: not read", PREFERRED | {"pair": 7}, True),
    field_case("date-number", OWN, PREFERRED | {"date": 7}, False),
    field_case("rejected-unclosed", OWN, PREFERRED | {"rejected": "<think>a"}, False),
]


def bytes_of(line: Any) -> bytes:
    return line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()


def agreed(path: Path, teaching: Teaching) -> bool:
    """Whether both readers take the file; raises when one does and the other does not."""
    from forex.errors import DataDefect
    from forex.rows import read_examples, read_preferences

    try:
        package = len((read_examples if teaching is Teaching.EXAMPLES else read_preferences)(path).rows)
    except DataDefect:
        package = 0
    read = rows.read(path, teaching)
    gate = 0 if read.defects else len(read.rows)
    assert gate == package, [defect.detail for defect in read.defects]
    return gate > 0


@pytest.mark.parametrize("beside", [0, 1, 400])
@pytest.mark.parametrize(("line", "fits"), LINES)
def test_gate_and_package_read_and_refuse_the_same_examples(tmp_path: Path, line: Any, fits: bool, beside: int) -> None:
    """Alone, before a row of another make, and among so many that they are read in bulk."""
    others = [json.dumps(example(number)).encode() for number in range(beside)]
    path = tmp_path / "real.jsonl"
    path.write_bytes(b"\n".join([*others, bytes_of(line), *others]) + b"\n")
    assert agreed(path, Teaching.EXAMPLES) is fits


@pytest.mark.parametrize(("line", "fits"), PAIR_LINES)
def test_gate_and_package_read_and_refuse_the_same_pairs(tmp_path: Path, line: Any, fits: bool) -> None:
    others = [json.dumps(pair(number)).encode() for number in range(400)]
    path = tmp_path / "real.jsonl"
    path.write_bytes(b"\n".join([*others, bytes_of(line), *others]) + b"\n")
    assert agreed(path, Teaching.PREFERENCES) is fits


@pytest.mark.parametrize("text", [b"", b"\n", b"\r\n", b'{"prompt": "a", "completion": "b"}', b'{"prompt": "a"}\n\n'])
def test_gate_and_package_agree_on_files_that_hold_little(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "real.jsonl"
    path.write_bytes(text)
    assert agreed(path, Teaching.EXAMPLES) is text.endswith(b'"b"}')


SHAPES: list[Any] = [
    field_case("messages", OWN, chat, "60 of messages", Verdict.PASS),
    field_case(
        "alpaca",
        "hiyouga/LLaMA-Factory: data/alpaca_en_demo.json",
        lambda n: {"instruction": example(n)["prompt"], "input": None, "output": "Yes."},
        "60 of prompt/completion",
        Verdict.PASS,
    ),
    field_case(
        "sharegpt",
        "hiyouga/LLaMA-Factory: data/glaive_toolcall_en_demo.json",
        lambda n: {
            "conversations": [{"from": "human", "value": example(n)["prompt"]}, {"from": "gpt", "value": "Yes."}],
            "tools": "[]",
        },
        "60 of messages",
        Verdict.PASS,
    ),
    field_case(
        "sharegpt-pairs",
        "hiyouga/LLaMA-Factory: data/dpo_en_demo.json",
        lambda n: {
            "conversations": [{"from": "human", "value": example(n)["prompt"]}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        "60 of prompt/chosen/rejected",
        Verdict.PASS,
    ),
    field_case(
        "kto",
        "hiyouga/LLaMA-Factory: data/kto_en_demo.json",
        lambda n: {
            "messages": [
                {"role": "user", "content": example(n // 2)["prompt"]},
                {"role": "assistant", "content": f"Answer {n % 2}."},
            ],
            "label": n % 2 == 0,
        },
        "60 of messages",
        Verdict.PASS,
    ),
    field_case(
        "azure-pairs",
        "microsoft-foundry/fine-tuning: Sample_Datasets/Direct_Preference_Optimization",
        lambda n: {
            "input": {"messages": [{"role": "user", "content": example(n)["prompt"]}]},
            "preferred_output": [ASSISTANT],
            "non_preferred_output": [{"role": "assistant", "content": "Down."}],
        },
        "60 of prompt/chosen/rejected",
        Verdict.PASS,
    ),
    field_case(
        "tool-calls",
        "microsoft-foundry/fine-tuning: Sample_Datasets/Supervised_Fine_Tuning/Tool-Calling",
        lambda n: {
            "messages": [
                {"role": "user", "content": example(n)["prompt"]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]},
                {"role": "tool", "content": ""},
                ASSISTANT,
            ]
        },
        "60 of messages",
        Verdict.PASS,
    ),
    field_case(
        "plain-text",
        "hiyouga/LLaMA-Factory: data/c4_demo.jsonl",
        lambda n: {"text": example(n)["prompt"]},
        "60 of text",
        Verdict.PASS,
    ),
    field_case(
        "query",
        "modelscope/ms-swift: tests/llm/data/swift_single.jsonl",
        lambda n: {"query": example(n)["prompt"], "response": "Yes."},
        "60 of prompt/completion",
        Verdict.PASS,
    ),
    field_case(
        "own-keys",
        "modelscope/ms-swift: tests/llm/data/sharegpt.jsonl",
        lambda _: {"conversation": [{"human": "a", "assistant": "b"}]},
        "unknown: 60 with conversation",
        Verdict.UNKNOWN,
    ),
    field_case(
        "prompts-only",
        "microsoft-foundry/fine-tuning: Demos/RFT_Countdown/data/countdown_train_100.jsonl",
        lambda n: {"messages": [USER], "target": n},
        "unknown: 60 with messages/target",
        Verdict.UNKNOWN,
    ),
    field_case(
        "null-turn",
        "NVIDIA-NeMo/Megatron-Bridge#5742",
        lambda _: {"conversations": [{"from": "human", "value": None}, {"from": "gpt", "value": "b"}]},
        "60 of 60 rows (100.0%): a turn in 'conversations' says nothing",
        Verdict.FAIL,
    ),
    field_case(
        "number-answer", OWN, lambda n: {"prompt": "a", "completion": n}, "'completion' is not text", Verdict.FAIL
    ),
]


@pytest.mark.parametrize(("row", "seen", "verdict"), SHAPES)
def test_any_file_of_rows_is_judged_by_its_own_shape(
    tmp_path: Path, row: Callable[[int], Row], seen: str, verdict: Verdict
) -> None:
    findings = {one.id: one for one in judging.judge(write(tmp_path / "any.jsonl", [row(n) for n in range(ROWS)]))}
    assert findings["lines_parse"].verdict is Verdict.PASS
    assert findings["rows_have_a_shape"].verdict is verdict
    assert seen in findings["rows_have_a_shape"].seen
    if verdict is Verdict.PASS:
        assert findings["rows_sound"].verdict is Verdict.PASS, findings["rows_sound"].seen
    else:
        assert findings["rows_have_a_shape"].remedy


def test_an_empty_turn_in_the_middle_of_a_chat_is_named(tmp_path: Path) -> None:
    lines = [chat(number) for number in range(ROWS)]
    lines[7]["messages"][1]["content"] = " "
    (found,) = (one for one in judging.judge(write(tmp_path / "any.jsonl", lines)) if one.id == "rows_sound")
    assert found.verdict is Verdict.FAIL
    assert found.seen.startswith("any.jsonl:8: empty_turn: 1 of 60 rows (1.7%): messages[1] is empty")


def test_a_file_with_broken_lines_says_so_once_a_reason(tmp_path: Path) -> None:
    lines = [example(number) for number in range(ROWS)]
    broken = [*lines, *["{'prompt': 'a'}"] * 40, "", "[]"]
    found = {one.id: one for one in judging.judge(write(tmp_path / "any.jsonl", broken))}
    assert found["lines_parse"].verdict is Verdict.FAIL
    assert "any.jsonl:61: json: 40 of 101 rows" in found["lines_parse"].seen
    assert found["lines_parse"].seen.count("any.jsonl") == 1
    assert "any.jsonl:102: schema: 1 of 101 rows" in found["rows_have_a_shape"].seen


def test_a_file_without_rows_or_that_is_not_there_is_not_sound(tmp_path: Path) -> None:
    assert [one.verdict for one in judging.judge(write(tmp_path / "any.jsonl", []))] == [Verdict.FAIL]
    with pytest.raises(BadInput, match=r"nowhere\.jsonl"):
        judging.judge(tmp_path / "nowhere.jsonl")
