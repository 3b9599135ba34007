"""Values that a template was to hold and does not: placeholders never filled in, words where a number belongs. Pure.

A placeholder that a program prints, and the word ``None`` in a list of allergies, are no defects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from harness.artifacts.dataset.search import Search

_FENCED: Final = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`|\$\$.{0,2000}?\$\$|\\\[.{0,2000}?\\\]", re.DOTALL
)
_SENTENCE: Final = re.compile(r"[.!?]\s")
_REACH: Final = 300  # characters of a line before a placeholder that tell whether it is a program's
_PROGRAM: Final = re.compile(
    r"""\w\(\s*[a-z$@]{0,2}["'`]|[=+,(\[]\s*[bfru]{0,2}["']{1,3}[^"'\n]*\Z|(?<!\w)[bfru]{1,2}["'][^"'\n]*\Z"""
    r"""|\A\s*(?:def|class|return|print|for|import|from|const|let|var|SELECT|INSERT|UPDATE|#include|echo"""
    r"""|puts|<[a-z]|//|\$ )"""
    r"""|\bprint\w*\s+["']|\$\(|@\w+ \Z|%[a-z]\W{0,2}\Z|\s-\w+ ["']?\Z|\w?/[\w./{}-]*\Z|\\[a-z]+\Z""",
    re.IGNORECASE,
)
"""The beginning of a line of a program, a URL or a formula, up to the placeholder in it."""
_CODE: Final = re.compile(
    r"^\s*(?:#!/|#include\b|import \w[\w.]*(?: as \w+)?;?$|from [\w.]+ import "
    r"|(?:async )?def \w+\(|class \w+[(:{ ].*[:{]$"
    r"|(?:async )?function\b.*\{$|(?:const|let|var) \w+ = |(?:echo|puts) [\"'$]|(?:public|private|static"
    r"|void|int) \w.*[;{]$"
    r"|</?(?:html|head|body|div|ul|ol|li|p|span|table|tr|td|script|template|h[1-6]|a|button|form|input)\b)",
    re.MULTILINE,
)
"""A line that only a program has; a text with one is a program as a whole, with a fence or without."""

_SPEC: Final = r"[0-9<>=^+#,_-]*(?:\.\d+[deEfFgGsx%]?|[deEfFgGsx%]|[<>^]\d+)"
_UNRENDERED: Final = re.compile(
    r"\{[\w.\[\]'\"]*(?:![rsa])?:" + _SPEC + r"\}|\{[\w.\[\]]*![rsa]\}"
    r"|(?<![\w}\\^$@%])\{(?![a-z]_[a-z0-9]{1,3}\})[a-z_][a-z0-9_.]{2,}\}"
    r"|(?<=[a-zA-Z)]: )\$?\{\d*\}(?=[\s.;%]|$)|(?<=: )\$\{[a-z][\w.]*(?:\([^(){}\n]*\))?\}"
    r"|%\([a-z_]\w*\)[-+#0]?\d*(?:\.\d+)?[sdfeg]"
    r"|(?<![\w%])%[-+#0]?\d*(?:\.\d+)?[sdfeg](?![A-Za-z0-9])"
    # The specification without its braces: "timestamp: .6f". "=" and a sign at its end are C: "x = .5f;".
    r"|(?<=[\w)*\]]):\*{0,2} ?[$€£]?[-+]?,?\.\d+[eEfF](?![\w.;)])"
    r"|(?<=\w)= ?[$€£]?[-+]?,?\.\d+[eEfF](?=\s*(?:\n|%|$))"
    r"|(?<=[\w)]: )[+-]?,\.?\d*[dfeg]\b"
    # A call, a choice or a look-up that was to be computed; a variable of string.Template; a block of Jinja.
    r"|(?<![\w}\\^$@%])\{(?:[a-z_][\w.]{2,}\([^(){}\n]*\)|[^{}\n]{1,60} if [^{}\n]{1,60} else [^{}\n]{1,60}"
    r"|\w+\[['\"]\w+['\"]\])\}"
    r"|(?<=[a-z)]: )\$[a-z_]{3,}(?=[\s;%,]|\.(?!\w)|$)|\{%-? ?(?:if|elif|else|endif|for|endfor|set"
    r"|block)\b[^{}\n]{0,80}%\}"
    r"|(?:(?<=[a-z] )|(?<=[|(] )|(?<=[(:]))[-+]?,?\.\d+[eEf]%?(?=[\s,)|%]|$)"
    r"|<(?:placeholder|todo|tbd|fill[- _]in|value[- _]here|insert[- _][\w -]{1,30}|your[- _][\w -]{1,30}[- _]here)>"
    r"|\[(?:placeholder|insert [\w ]{1,30}(?: here)?|value here|tbd|todo)\]",
    re.IGNORECASE,
)
_QUANTITY: Final = (
    r"(?:\w{1,20}_)?(?:price|close|open|high|low|volume|rate|value|amount|number|symbol|ticker|pair|bid|ask|spread|rsi|macd"
    r"|atr|ema|sma|adx|vwap|pnl|profit|return|signal|direction|timestamp)(?:_\w{1,20})?"
)
_GAP: Final = re.compile(
    r"(?<!\$)\{\{ ?[A-Za-z_][^{}]{0,80}\}\}"
    r"|[<\[](?:PRICE|CLOSE|OPEN|HIGH|LOW|VOLUME|RATE|VALUE|AMOUNT|NUMBER|SYMBOL|TICKER|PAIR)[>\]]"
    # A quantity's name between two signs: %PRICE%, @price@, ##price##, $PRICE$, [[price]], «price».
    rf"|(?<![\w%@$#.'\"/\\=])(?P<sign>%|@|##|\$(?=[A-Z]))(?i:{_QUANTITY})(?P=sign)(?![\w%@$#'\"/\\]|\.\w)"
    rf"|\[\[ ?(?i:{_QUANTITY}) ?\]\]|«(?i:{_QUANTITY})»"
    # Behind a label, any name; %NAME% of Windows goes on as a path, or is one of these.
    r"|(?<=[\w)*\]][:=] )(?P<mark>[%@])(?!(?:\w*PATH\w*|\w*DATA|\w*HOME|\w*DIR|USER\w*|TE?MP|\w*ROOT|OS|PUBLIC)%)"
    r"[A-Za-z_][\w.]{2,30}(?P=mark)(?=[\s,;)|%]|\.(?!\w)|$)"
    # Letters where a number belongs: XXX, X.XXXX, $XX.XX.
    r"|(?<=[\w)*\]][:=] )[$€£]?(?:X{3,}|x{3,}|X+[.,]X{2,}|x+[.,]x{2,})%?(?=[\s,;)|]|\.(?!\w)|$)"
    r"|(?<=\w=)(?:X{3,}|x{3,}|X+\.X{2,}|x+\.x{2,})(?=[\s,;)|]|$)"
    r"|[$€£](?:X{2,}(?:[.,]X+)?|x{2,}(?:[.,]x+)?)(?![\w-])|(?<![\w.-])(?:X+\.X{2,}|x+\.x{2,})(?![\w.(-])",
)
"""Gaps that an author left for a value; the same words stand where a text tells how a template is written."""
_TELLS_HOW: Final = re.compile(
    r"\b(?:formats?|formatted|templates?|placeholders?|variables?|syntax|schema|patterns?|replaced?|replaces|substitut\w*"
    r"|filled in|fill|render\w*|interpolat\w*|jinja\w*|mustache|handlebars|e\.g|for example|for instance|such as"
    r"|like this|the form|as follows|(?:respond|reply|answer|end|output)\w* (?:with|in|as|only|exactly)|tokens?)\b",
    re.IGNORECASE,
)
_REDACTED: Final = re.compile(
    r"\b(?:name|patient|customer|client|phone|tel|mobile|fax|e-?mail|address|ssn|account|card|passport|id|dob|user|password"
    r"|pin|key|token|licen[cs]e|employee|company|city|school)\W{0,6}\Z",
    re.IGNORECASE,
)
"""A label whose value is kept back on purpose."""

_NO: Final = r"(?:nan|inf|infinity|nat)"
_UNIT: Final = r"\s?(?:%|pips?\b|points?\b|bps\b|USD\b|EUR\b|dollars\b|percent\b)"
_NOT_A_NUMBER: Final = re.compile(
    # As Python writes it; "isnan", "np.nan", "'nan'" and "NaN/inf" speak of it.
    r"(?<![\w.'\"/\\{`])-?nan(?![\w'\"/({`]|\.\w)"
    rf"|(?<=[\w)*%]):\s{{0,2}}[$€£]?[-+]?(?i:{_NO})\b(?=\s*(?:[%,;)\]\n]|\.(?!\w)|$|[a-z]))"
    rf"|(?<=\w)=[$€£]?[-+]?(?i:{_NO})(?=\s*(?:[%,;)\n]|\.(?!\w)|$))"
    rf"|(?<![\w./])[-+]?(?i:{_NO}){_UNIT}|[$€£][-+]?(?i:{_NO})\b"
    r"|\b[A-Z][A-Z0-9_]+(?:\([^)\n]{0,12}\))?\s(?:NaN|NAN|NaT)(?=\s*(?:[.,;)%\n]|$))"
    r"|\[object Object\]|(?<![\w<])<NA>|<(?:\w+\.)*\w+ object at 0x"
    r"|<(?:built-in|bound) (?:method|function) |<function \w"
    r"|\bnp\.float\d+\(|(?<=: )tensor\(-?\d|(?<=[:|,=] )#(?:REF!|N/A|DIV/0!|VALUE!|NUM!|NULL!|NAME\?)"
    r"|[$€£](?:None|undefined)\b|[€£]null\b|(?<![\w./])(?:None|undefined|null)\s?%"
)
_WORDS: Final = r"(?:None|null|undefined|NULL|N/A|n/a)"
_LABELLED: Final = re.compile(
    r"(?:^|[,;|.:(])[ \t*#>-]*(?P<label>[A-Za-z_][^,;|.\n:=]{0,40}?)\*{0,2}[ \t]?(?P<sign>[:=])[ \t]?\*{0,2}"
    rf"(?:(?P<number>[-+$€£]{{0,2}}\d)|(?P<none>{_WORDS})(?=\s*(?:[%,;)|\n]|\.(?!\w)|$))|(?P<word>\w))",
    re.MULTILINE,
)
_VARIABLE: Final = re.compile(r"[a-z][a-z0-9_]*")  # a program's name, not a person's word


class Labels:
    """The labels of a file's texts by what stands behind them: a number somewhere, other words, or ``None`` alone.

    ``rsi: None`` lacks its number when other rows have one; ``allergies: None`` says what there is to say.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        found = [match for text in texts for match in _LABELLED.finditer(_prose(text))]
        self._numeric = {match["label"] for match in found if match["number"]}
        self._worded = {match["label"] for match in found if match["word"]}

    def without_number(self, text: str) -> re.Match[str] | None:
        """The first label with ``None``, ``null`` or ``undefined`` where its number belongs."""
        found = list(_LABELLED.finditer(_prose(text)))
        among_numbers = sum(bool(match["number"]) for match in found) > 1
        for match in found:
            label = match["label"]
            if match["none"] and (
                label in self._numeric
                or (among_numbers and match["sign"] == ":" and _VARIABLE.fullmatch(label) and label not in self._worded)
            ):
                return match
        return None


def _first(
    pattern: re.Pattern[str],
    text: str,
    _asked: str = "",
    *,
    spared: Callable[[str, re.Match[str]], bool] = lambda _text, _match: False,
) -> re.Match[str] | None:
    if pattern.search(text) is None:
        return None
    prose = _prose(text)
    for match in () if _CODE.search(prose) else pattern.finditer(prose):
        earliest = max(0, match.start() - _REACH)
        begin = prose.rfind("\n", earliest, match.start()) + 1 or earliest
        if _PROGRAM.search(prose[begin : match.start()]) is None and not spared(prose, match):
            return match
    return None


def _unrendered(text: str, asked: str) -> re.Match[str] | None:
    return _first(_UNRENDERED, text) or _first(_GAP, text, asked, spared=_is_meant)


def _is_meant(text: str, match: re.Match[str]) -> bool:
    """True for a gap that is no defect: its sentence, or a line with a colon above it, tells how to write something."""
    *above, line = text[max(0, match.start() - _REACH) : match.start()].split("\n")
    behind = text[match.end() : match.end() + _REACH].partition("\n")[0]
    sentence = f"{_SENTENCE.split(line)[-1]} {match[0]} {_SENTENCE.split(behind)[0]}"
    headed = any(one.rstrip().endswith(":") and _TELLS_HOW.search(one) for one in above)
    return headed or bool(_TELLS_HOW.search(sentence)) or bool(_REDACTED.search(line))


def _prose(text: str) -> str:
    """The text with its programs and formulas blanked out."""
    return (
        _FENCED.sub(lambda match: " " * len(match[0]), text) if "`" in text or "$$" in text or "\\[" in text else text
    )


UNRENDERED: Final = Search(
    _unrendered,
    re.compile(
        rb"\{[\w.\[\]'\"\\]*(?:![rsa])?(?::[^{}\"]{0,12})?\}|\{[a-z_][\w.]*\([^(){}]*\)\}"
        rb"|\{[^{}]{1,200} if [^{}]{1,200}\}|\{%"
        rb"|[:(] ?\$[a-z_]|[<\[](?:price|close|open|high|low|volume|rate|value|amount|number|symbol|ticker|pair)[>\]]"
        rb"|[a-z|(:] ?,?\.[ef]%?(?![a-z])|\{\{ ?[a-z_][^{}]{0,80}\}\}|\$\{[a-z]|%\([a-z_]"
        rb"|%#?\.?[sdfeg](?![a-z])|[:=]\** ?[^\w\s.:=]{0,4},?\.[ef](?![a-z])|: ,\.?[dfeg](?![a-z])"
        rb"|<(?:placeholder|todo|tbd|fill|value|insert|your)|\[(?:placeholder|insert |value here|tbd|todo)"
        rb"|(?<!\w)(?:%|@|##|\$)[a-z_][\w.]*[%@#$]|\[\[ ?[a-z_]|(?:\xc2\xab|\\uab)[a-z_]|(?<![a-z])x+[.,]?x(?![a-z])"
    ),
    (
        b"{",
        b"%",
        b"$",
        b"<",
        b"[",
        b".e",
        b".f",
        b": ,",
        b"@",
        b"##",
        "\u00ab".encode(),
        b"\\uab",
        b"xx",
        b"x.x",
        b"x,x",
    ),
)
"""Placeholders that are no part of a program."""

NOT_A_NUMBER: Final = Search(
    partial(_first, _NOT_A_NUMBER),
    re.compile(
        rb"(?:nan|inf|infinity|nat)(?![\w'({`])|\[object object\]|<na>| object at x"
        rb"|<(?:builtin|bound) method |<function "
        rb"|np\.float\(|tensor\(|#(?:ref!|n/a|div/!|value!|num!|null!|name\?)"
        rb"|(?:\$|\xe2\x82\xac|\xc2\xa3|\\u\w+)(?:none|undefined|null)|(?:none|undefined|null)\s?%"
    ),
    (
        b"nan",
        b"inf",
        b"nat",
        b"object",
        b"<na>",
        b"<built",
        b"<bound",
        b"<func",
        b"none",
        b"undefined",
        b"null",
        b"np.",
        b"tensor(",
        b"#",
    ),
)
"""What is not a number, infinite values, and objects' names where a value stands."""

NO_VALUE: Final = Search(
    partial(_first, _LABELLED),
    re.compile(rb"[\w)*] ?[:=] ?\**(?:none|null|undefined|n/a)(?!\w)"),
    (b"none", b"null", b"undefined", b"n/a"),
)
"""Labels with such a word behind them; ``Labels`` knows which lack their number."""
