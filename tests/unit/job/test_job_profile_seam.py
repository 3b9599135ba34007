"""What is the first user's own stands in his profile and package: the engine knows no currency and no file of his."""

from __future__ import annotations

import re
from pathlib import Path

HARNESS = Path(__file__).resolve().parents[3] / "harness"

HIS = re.compile(
    r"forex|foreign.exchange|deepseek|r1-distill|(?<!con)currenc|real_(?:feature|trade|dpo)|(?-i:(?<!/)\bV2\b)|v2_"
    r"|\b(?:EUR|GBP|AUD|NZD|USD|CHF|CAD|JPY)/?(?:EUR|GBP|AUD|NZD|USD|CHF|CAD|JPY)\b",
    re.IGNORECASE,
)
"""Words of his trade, his data, his base model and his log."""

PROFILES = "job/profiles/"
ELSEWHERE = {
    "gates/plan.py": "the check's id is a word of his rules and of recorded gates",
    "shellguard/seeds.py": "his rules, word for word",
    "shellguard/rules.py": "his rules give the command that works",
    "artifacts/dataset/outcomes.py": "words by which a text on a market is known",
    "artifacts/dataset/market.py": "rules on rows that name a pair: ISO 4217's table; a job ignores them by name",
    "artifacts/tokenizer.py": "names that llama.cpp gives to pre-tokenizers",
    "static/options.py": "a fact about a public model's chat template",
}
"""Files outside the profiles in which such words may stand, and why."""


def _found() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(HARNESS.rglob("*")):
        name = path.relative_to(HARNESS).as_posix()
        if path.is_file() and "__pycache__" not in name and not name.startswith(PROFILES):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                if HIS.search(line):
                    found.setdefault(name, []).append(f"{name}:{number}: {line.strip()}")
    return found


def test_no_word_of_his_stands_in_the_engine() -> None:
    strangers = [line for name, lines in _found().items() if name not in ELSEWHERE for line in lines]
    assert not strangers, "\n".join(strangers)


def test_no_exception_is_kept_that_nothing_needs() -> None:
    assert set(ELSEWHERE) <= set(_found())
