"""Outcomes told: words that only somebody who knows what happened afterwards can write. Pure.

A model learns to write them, and has nothing to write them from. Not every look back is one: reasoning on what the
prompt shows ("the price fell last week"), a plan's conditions and a slip that the reasoning mends are an answer's own.
So a verdict on the answer's own decision, a realized result, and a move with a word for "afterwards" are told outcomes;
and none of them is when its sentence names a time before, or speaks of a condition.
"""

from __future__ import annotations

import re
from typing import Final

from harness.artifacts.dataset.search import Search

_THING: Final = (
    r"(?:the |this |that |our |your |its |a )?(?:actual )?(?:price|prices|price action|market|exchange rate|rate|pair|"
    r"stock|shares?|index|euro|dollar|yen|pound|franc|gold|oil|bitcoin|coin|token|spread|(?-i:[A-Z]{3}/?[A-Z]{3}))"
)
_DECISION: Final = (
    r"(?:the |this |that |our |your )(?:\w+ )?(?:trade|signal|prediction|forecast|call|decision|position|entry|veto|"
    r"recommendation|bet|setup|advice)"
)
_MOVED: Final = (
    r"(?:went|moved|rose|fell|gained|lost|climbed|dropped|rallied|sank|declined|advanced|jumped|plunged|surged|"
    r"increased|decreased|broke|closed|ended|finished|headed|reversed|reached|touched|tanked|collapsed"
    r"|crashed|slid|slipped|tumbled)"
)
_AFTER: Final = (
    r"(?:actually|eventually|ultimately|subsequently|afterwards?|later|indeed|in fact|in reality|in the end|did indeed)"
)
_GOOD_OR_BAD: Final = (
    r"(?:correct|wrong|right|incorrect|accurate|inaccurate|profitable|unprofitable|successful|unsuccessful"
    r"|vindicated|stopped out|"
    r"a (?:\w+ )?(?:win|winner|loss|loser|mistake|success|failure)|a (?:winning|losing) \w+)"
)
_BECAME: Final = (
    r"(?:was|were|would(?: have|'ve)(?: been)?|has been|had been|proved(?: to be)?|proven|turned out(?: to be)?|"
    r"ended up(?: being)?)"
)
_PERIOD: Final = r"(?:day|session|week|month|hour|bars?|candles?|days|sessions|weeks|hours|minutes|fixings|periods)"
_FRAME: Final = (
    r"[(\[*_]\s*(?:note|result|outcome|actual|label|truth|ground truth|spoiler|reality|update|edit|postscript)\b"
)
_OUTCOME: Final = r"[(\[*_]\s*(?:outcome|actual|actually|truth|reality)\b"
_JUDGED: Final = rf"{_BECAME} (?:\w+ )?{_GOOD_OR_BAD}"
_AFTERWARDS: Final = (
    r"(?:afterwards|thereafter|over the (?:next|following)|after (?:this|that|the) (?:signal|entry|trade|analysis|call)"
    rf"|(?:the )?(?:next|following) (?:\w+ )?{_PERIOD})"
)
_ENDED: Final = (
    r"(?:stopped out|validated|vindicated|borne out|lost money|paid off|worked out|failed|closed (?:in|at"
    r"|for|with) (?:(?:a )?(?:\w+ )?(?:profit|loss)|[-+]\d)"
    r"|hit (?:its |the )?(?:target|stop|take[- ]?profit)"
    r"|made (?:a )?(?:\w+ )?(?:profit|money|pips))"
)
_TARGET: Final = r"(?:target|stop[- ]?loss|stop|take[- ]?profit|tp|sl)(?: level)?"
_REALIZED: Final = (
    r"\b(?:actual|real|realized|realised|eventual|subsequent|future|forward|observed) (?:price )?"
    r"(?:outcome|result|return|move(?:ment)?|direction|close|p&l|p/l|pnl|profit|loss)"
    r"(?: over [^.:\n]{1,40})?[*_]{0,2}\s*(?::|=|was\b|were\b)"
)

_LABEL: Final = (
    r"\b(?:ground[- ]truth|(?:true|actual|target) label)[*_]{0,2}(?: is)?\s*[:=]?\s*[*_]{0,2}\s?"
    r"(?:up|down|higher|lower|buy|sell|long|short|win|loss|bullish|bearish|[01])\b"
)
_GAP: Final = r"(?:[^.\n]|\.(?!\s))"
_AMOUNT: Final = r"[-+]?[$€£]?\d[\d.]*"
_GOOD_TRADE: Final = (
    r"a (?:winning|losing|profitable|unprofitable|successful|failed|good|bad)"
    r" (?:trade|signal|position|call|setup|bet|short|long)"
)
_ACT: Final = r"(?:short|buy|sell|trad|go|enter|exit|stay|hold|veto|wait)\w*"

_ALWAYS: Final = (
    _REALIZED,
    _LABEL,
    # Who won, with the amount: a forecast names none.
    r"\b(?:result|outcome)[*_]{0,2}\s*[:=]\s*[*_]{0,2}\s?(?:win|loss|winner|loser|profit)\b[^\w\n]{1,4}" + _AMOUNT,
    r"\b(?:final|realized|realised) (?:p&l|p/l|pnl)[*_]{0,2}\s*[:=]",
    rf"\bexit(?:ed)? (?:was )?at {_AMOUNT} for {_AMOUNT}",
    rf"\b(?:as )?we now know\b{_GAP}{{0,40}}\b{_THING} {_MOVED}\b",
    (
        rf"\bwhat (?:actually happened|happened (?:next|after\w*))\b[*_:,]{{0,3}} {_GAP}{{0,20}}\b(?:{_THING}"
        rf"|it) {_MOVED}\b"
    ),
    rf"\blooking back,? {_ACT}(?: \w+){{0,4}} {_BECAME} (?:the |a )?(?:right|wrong|correct|good|bad|mistake)\b",
    (
        r"\b(?:market|price action|price) (?:has )?proved (?:this|that|the|our|your|us|it|me)(?: \w+)? (?:right"
        r"|wrong|correct)\b"
    ),
    r"\b(?:in)?(?:correct|accurate|wrong) (?:prediction|forecast|call)\b[!:]",
    rf"\b(?:this|that|it|which) {_BECAME} {_GOOD_TRADE}\b",
    rf"\b{_THING} {_MOVED}\b{_GAP}{{0,30}}\b{_PERIOD} after (?:this|that|the) (?:signal|entry|trade|analysis|call)\b",
    (
        rf"\b(?:{_DECISION}|{_ACT}(?: \w+){{0,3}}) (?:saved|avoided|prevented|cost|made"
        rf"|earned) (?:\w+ ){{0,4}}(?:{_AMOUNT}[- ]pips?\b|loss of\b)"
    ),
    r"\b(?:in|with)(?: the benefit of)? hindsight\b|\bas it turned out\b|\bhindsight (?:shows|confirms|says)\b",
    # "(Note: this was correct)": a frame that an answer has no reason to hold.
    rf"{_FRAME}[^)\]\n]{{0,120}}?\b(?:{_JUDGED}\b|{_THING} {_AFTER} {_MOVED}\b)",
    rf"{_OUTCOME}[*_:]{{0,3}} ?[^)\]\n]{{0,60}}?\b(?:{_THING}|it) {_MOVED}\b",
    rf"\b(?:this|that|it|which|{_DECISION}) {_JUDGED}\b[^.\n]{{0,40}}\b(?:{_THING}|it) (?:{_AFTER} )?{_MOVED}\b",
    r"\bwould(?: have|'ve) been (?:profitable|unprofitable|stopped out|a (?:winning|losing) (?:trade|position))",
    r"\bwould(?: have|'ve) (?:made|lost|hit|reached|stopped)\b[^.\n]{0,20}(?:pips|points|profit|money|stop|target)",
)
_UNLESS_BEFORE: Final = (
    rf"\b{_THING} {_AFTER} {_MOVED}\b",
    # A direction in capitals is a label that was filled in.
    rf"\b{_THING} (?:{_AFTER} )?(?:went|moved|ended|finished|broke) \**(?-i:UP|DOWN|HIGHER|LOWER)\b",
    rf"\b(?:subsequently|afterwards?),? (?:{_THING} |it )?{_MOVED}\b",
    rf"\b(?:{_THING}|it) {_MOVED}\b{_GAP}{{0,30}}\b{_AFTERWARDS}\b",
    rf"\b(?:next|following) (?:\w+ )?{_PERIOD},? (?:{_THING} |it ){{0,3}}{_MOVED}\b",
    r"\b(?:trade|position) (?:was )?closed (?:at|for|with) [-+]\d",
    rf"\b{_PERIOD} later,? (?:{_THING}|it) (?:was|had|stood|{_MOVED})\b",
    rf"\b{_DECISION} (?:later |eventually |ultimately |in the end )?{_JUDGED}\b",
    rf"\b{_DECISION} (?:later |eventually )?(?:{_BECAME} |got )?{_ENDED}\b",
    rf"\b{_DECISION} (?:then |later |eventually )?(?:won|lost)\b(?! (?:its|the|their|momentum))",
    rf"\b{_TARGET} (?:was|got|would have been) (?:{_AFTER} |then |duly )?(?:hit|reached|triggered|filled|taken out)\b",
)
_ON_PRICE: Final = re.compile(rf"\b(?:if|had|should) {_THING}\b", re.IGNORECASE)
"""A condition on the price: whatever follows from it has not happened."""
_MARKET: Final = re.compile(
    r"\b(?:(?i:prices?|pips?|trade[drs]?|trading|markets?|stocks?|shares?|exchange rates?|bullish|bearish"
    r"|long|short\w*|buy|sell|"
    r"trend|signal|pair|profit|direction|outcome|position|call|candles?|rate|stop|target|veto|p&l|p/l|pnl"
    r"|euro|dollar|yen|pound|gold|oil|bitcoin)"
    r"|UP|DOWN|BUY|SELL|LONG|SHORT|[A-Z]{3}/?[A-Z]{3})\b"
)
"""A word without which an answer speaks of no market: other texts may well tell how things went."""
_BEFORE: Final = re.compile(
    r"\b(?:yesterday|previous|previously|earlier|prior|past|last|recent|recently|ago|since|historical|historically|"
    r"in history|before|so far|already|if|whether|unless|when|whenever|once|should|often|usually|typically|tends?|"
    r"times|of the time|wait|hmm|(?:19|20)\d\d(?!\d)|in (?:january|february|march|april|may|june|july|august|"
    r"september|october|november|december))\b",
    re.IGNORECASE,
)
_ANNOUNCED: Final = (
    r"\b(?:outcome|(?:trade|position|signal) result|ground truth|correct answer|label)[*_]{0,2}\s*[:=]\s*[*_]{0,2}\s?"
)
_VALUE: Final = (
    r"(?:(?-i:[A-Z]{2,})\b|[-+]?\d|(?:up|down|higher|lower|buy|sell|long|short|win|loss|true|false|yes|no|rise|fall|"
    r"profit|bullish|bearish)\b)"
)
_FUTURE: Final = (
    r"\b(?:(?:future|fwd|forward)_(?:ret|return|direction|dir|move|price|close|high|low|change|pnl)\w*"
    r"|target_(?:direction|dir|ret|return|move|class|label|sign|up)\w*|next_(?:\w+_)?(?:close|open|high|low"
    r"|ret|return|direction|move)\w*"
    r"|y_true|(?:tomorrow|(?:next|following) (?:day|session|bar|candle|week|month))(?:'s|s)? (?:close|open"
    r"|high|low|return|price|move|direction)"
    r"|(?:correct|right) (?:direction|action|signal|decision|label)"
    r"|target(?=[*_]{0,2}\s*[:=]\s*[*_]{0,2}\s?(?:up|down|long|short|buy|sell)\b))"
    r"[*_]{0,2}\s*[:=]\s*[*_]{0,2}\s?"
)
_OUTCOME_IS: Final = (
    r"\b(?P<of>(?:trade|position|signal|setup|call|bet|final|actual)(?:'s)? )?(?:result|outcome|verdict)[*_]{0,2}\s*"
    r"[:=]\s*[*_]{0,2}\s?(?:win|won|loss|lost|lose|winner|loser|profit(?:able)?|unprofitable|stopped out|(?:in)?correct"
    r"|right|wrong|success(?:ful)?|failure|failed|hit|missed)\b"
)
_ENDS: Final = r"(?=\s*(?:[.;,!)\]\n*_(+|-]|\d|$))"
_TRADED: Final = re.compile(
    r"\b(?:EUR|USD|GBP|JPY|AUD|CHF|CAD|NZD|BTC|ETH|XAU)/?[A-Z]{3}\b|\b(?i:forex|pips?|rsi(?:_\d+)?|macd|candles?|ohlc"
    r"|bullish|bearish|stop[- ]loss|take[- ]profit|trading|traders?|trade (?:signal|setup|scenario)|exchange rate)\b"
)
"""A word that only a text on a market has."""
_ASKED_FOR: Final = re.compile(
    r"\b(?:outcome|result|win|won|winning|lose|lost|losing|(?<!stop )(?<!stop-)loss|profitable|succeed|success|fail)\b",
    re.IGNORECASE,
)
_DECIDED: Final = re.compile(
    r"\b(?i:direction|signal|action|decision|recommendation|prediction|forecast|bias|position)\W{0,4}[:=]\W{0,4}[A-Za-z]"
    r"|\b(?:BUY|SELL|LONG|SHORT|UP|DOWN|HOLD|APPROVE|VETO)\b"
)
_HEDGED: Final = re.compile(
    r"\b(?:expect\w*|likely|likeliest|potential|possible|probable|target|would|could|may|might|should|best|worst|risk|max"
    r"|maximum|estimated|projected|desired)\b",
    re.IGNORECASE,
)
_REACH: Final = 400  # characters before and behind; a longer sentence is cut
_SENTENCE_ENDS: Final = re.compile(r"[.!?\n](?:\s|\Z)|\n")

_SURELY: Final = re.compile("|".join(_ALWAYS), re.IGNORECASE)
_MAYBE: Final = re.compile("|".join(_UNLESS_BEFORE), re.IGNORECASE)
_LABELLED: Final = re.compile(_OUTCOME_IS + _ENDS, re.IGNORECASE)
_IN_PROMPT: Final = re.compile(rf"{_REALIZED}|(?P<announced>{_ANNOUNCED}|{_FUTURE})(?={_VALUE})", re.IGNORECASE)
_WORKED_EXAMPLES: Final = re.compile(_ANNOUNCED, re.IGNORECASE)


def _told(answer: str, asked: str) -> re.Match[str] | None:
    """The first words of an answer that tell what happened afterwards."""
    if _MARKET.search(answer) is None and _TRADED.search(asked) is None:
        return None
    for match in _SURELY.finditer(answer):
        if not (match[0].lower().startswith("would") and _ON_PRICE.search(_sentence(answer, match))):
            return match
    told = next((match for match in _MAYBE.finditer(answer) if not _of_before(answer, match)), None)
    return told or next((match for match in _LABELLED.finditer(answer) if _tells_unasked(answer, match, asked)), None)


def _tells_unasked(answer: str, match: re.Match[str], asked: str) -> bool:
    """True for an outcome that is no forecast: nobody asked for one, or it stands beside the decision that had it."""
    if _of_before(answer, match) or _HEDGED.search(_sentence(answer, match)):
        return False
    if not (match["of"] or _TRADED.search(answer) or _TRADED.search(asked)):
        return False
    beside = f"{answer[: match.start()]} {answer[match.end() :]}"
    return _ASKED_FOR.search(asked) is None or _DECIDED.search(beside) is not None


def _told_in_prompt(prompt: str, _asked: str) -> re.Match[str] | None:
    """The first words of a prompt that tell what its answer should not know; worked examples tell several answers."""
    match = next(
        (one for one in _IN_PROMPT.finditer(prompt) if not (one["announced"] and _of_before(prompt, one))), None
    )
    if match is not None and match["announced"] and len(_WORKED_EXAMPLES.findall(prompt)) > 1:
        return None
    return match


def _of_before(text: str, match: re.Match[str]) -> bool:
    return _BEFORE.search(_sentence(text, match)) is not None


def _sentence(text: str, match: re.Match[str]) -> str:
    earliest, latest = max(0, match.start() - _REACH), match.end() + _REACH
    begin = max((end.end() for end in _SENTENCE_ENDS.finditer(text, earliest, match.start())), default=earliest)
    end = _SENTENCE_ENDS.search(text, match.end(), latest)
    return text[begin : end.start() if end is not None else latest]


_KEYS: Final = tuple(
    """
    hindsight|turned out|actual|real|eventual|subsequent|future|forward|observed|note|outcome|label|truth|spoiler|
    update|edit|postscript|result| was | were |would|has been|had been|prove|ended up|ultimate|later|indeed|in fact|
    in the end|afterward|thereafter|after this|after that|after the|next|following| went | moved |ended |finished |
    broke |know|happened|looking back|proved|correct|accurate|wrong|right|winning|winner|losing|closed |exit|
    ground|label|days after|fwd_|target|tomorrow|y_true|pips|loss of|stopped out|
    profit|money|paid off|worked out|failed| loss|lost| won|verdict|hit|reached|triggered|filled|taken out
    """.replace("|\n", "|")
    .replace("    ", "")
    .strip()
    .encode()
    .split(b"|")
)


def _loosened(*patterns: str) -> re.Pattern[bytes]:
    """The patterns for text without its digits and signs, in lower case, whose sentences may be cut elsewhere."""
    pattern = "|".join(patterns)
    for exact, loose in (
        ("(?-i:", "(?:"),
        (_AMOUNT, "[^a-z]{0,6}"),
        (_GAP, r"[^\n]"),
        (r"[^.\n]", r"[^\n]"),
        (r"\w+", r"\w*"),
        (r"[-+]\d", ""),
        (r"[-+]?\d", ""),
    ):
        pattern = pattern.replace(exact, loose)
    return re.compile(pattern.lower().encode())


TOLD: Final = Search(_told, _loosened(*_ALWAYS, *_UNLESS_BEFORE, _FRAME, _OUTCOME_IS.replace("?P<of>", "?:")), _KEYS)
"""What happened afterwards, in an answer."""

TOLD_IN_PROMPT: Final = Search(_told_in_prompt, _loosened(_REALIZED, _ANNOUNCED, _FUTURE), (*_KEYS, b"answer"))
"""What its answer should not know, in a prompt."""
