"""Looks at what reaches the provider's HTTP API, by whatever client: the address and a destructive verb. Pure.

The rule is not a list of client libraries: text that a program runs or sends, and that holds this API's address
and a verb that deletes, is held. Of programs that send (``curl`` and its kin) the address and the verb are read
apart from the text that is sent: a message about the act is a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.shellguard import rules
from harness.shellguard.reading import HOLE, ProgramCall, names
from harness.shellguard.seen import NestedScript, Place, Seen, Violation, said

ADDRESS = re.compile(
    r"console\.vast\.ai|vast\.ai/api/v\d|/api/v\d+/(instances|volumes|asks|auth/apikeys|team)\b", re.IGNORECASE
)
_OTHERS_ADDRESS = re.compile(r"\b(rest|api)\.runpod\.io\b|\bcloud\.lambda(labs)?\.\w+/api/", re.IGNORECASE)
_OTHERS_ACT = re.compile(
    r"/pods/[^/\s\"']+/(stop|reset)\b|\baction\W{1,8}(terminate|stop)\b|pod(Terminate|Stop)\b", re.IGNORECASE
)
"""An act in the address or in what is sent, where the method alone does not tell."""
_ANY_ACT = re.compile(r"/graphql\b|/pods/[^/\s]+/action\b", re.IGNORECASE)
_REBUILD = re.compile(r"/api/v\d+/instances/(recycle|update_template|bid_price)\b")
_VERB = re.compile(r"(?:(?<![a-z])|(?<=-x)|(?<=\wx))delete(?!d\b|s\b|[-_./])|podTerminate", re.IGNORECASE)
_STOPS = re.compile(r"\bstate\W{1,8}stop", re.IGNORECASE)
_ONE_INSTANCE = re.compile(r"/instances/[^/\s\"']+")

SENDERS = names("curl wget http https xh xhs curlie irm invoke-restmethod iwr invoke-webrequest")
"""Programs that do nothing with text but send it."""

_DATA = re.compile(
    r"-[dFHAeb]|--(data|json|form|header|user-agent|referer|cookie|post-|body-)[\w-]*|-(body|headers|form|useragent)",
    re.IGNORECASE,
)
_UPLOAD = re.compile(r"(-T|--upload-file|--(post|body)-file|-infile).*", re.IGNORECASE)
_FIELD = re.compile(r"(?!\w+://)[\w.-]+(:?=|:)(?!//).*", re.DOTALL)
_METHOD = re.compile(r"-\w*X.*|--request.*|--method.*|-me.*", re.IGNORECASE)
_PUTS = re.compile(r"(-\w*X|--request=?|--method=?|-\w+:)?(put|patch)", re.IGNORECASE)
_LINE = re.compile(r'"(?:onstart\w*|args\w*|entrypoint)"\s*:\s*"((?:[^"\\]|\\.)*)"')


def address(text: str) -> bool:
    """True when the text names the provider's API."""
    return ADDRESS.search(text) is not None


def acts(text: str, verbs: str | None = None) -> Iterator[Violation]:
    """Acts that a text does by the API: ``text`` holds the address, ``verbs`` (or the text itself) what is done."""
    told = text if verbs is None else verbs
    if address(text):
        if _VERB.search(told) or _REBUILD.search(text):
            yield Violation(rules.DIRECT, text)
        elif _STOPS.search(told):
            yield Violation(rules.STOP, text)
    elif _OTHERS_ADDRESS.search(text) and (_VERB.search(told) or _OTHERS_ACT.search(text)):
        yield Violation(rules.OTHER_MACHINE, text)


def send(call: ProgramCall, place: Place) -> Iterator[Seen]:
    """``curl`` and its kin: judged by address and method; what they send only where it is sent to this API."""
    rest, data, unseen = _parted(call)
    to = " ".join(rest)
    how = " ".join(word for word in rest if "://" not in word and not address(word))
    hidden = address(place.line) and any(HOLE in word or "{}" in word for word in rest)
    if not address(to) and not hidden:
        yield from acts(to, how)
        if _OTHERS_ADDRESS.search(to) and (_OTHERS_ACT.search(data) or (unseen and _ANY_ACT.search(to))):
            yield Violation(rules.OTHER_MACHINE, said(call))
        return
    verb_hidden = any(
        _METHOD.fullmatch(word) and HOLE in word + "".join(rest[i + 1 : i + 2]) for i, word in enumerate(rest)
    )
    if _VERB.search(how) or verb_hidden or _REBUILD.search(to):
        yield Violation(rules.DIRECT, said(call))
    elif _ONE_INSTANCE.search(to) and any(map(_PUTS.fullmatch, rest)) and (unseen or _STOPS.search(data)):
        yield Violation(rules.STOP, said(call))
    for found in _LINE.finditer(data):
        yield NestedScript(found[1].replace(r"\"", '"').replace(r"\n", "\n"), remote=True)


def _parted(call: ProgramCall) -> tuple[list[str], str, bool]:
    """Words that say where and how, the text that is sent, and whether some of it stands in a file."""
    rest: list[str] = []
    data: list[str] = []
    unseen = False
    words = iter(call.words[1:])
    for word in words:
        option, _, glued = word.partition("=")
        if option.startswith("-") and _DATA.fullmatch(option):
            data.append(glued or next(words, ""))
            unseen |= data[-1].startswith("@") or HOLE in data[-1]
        elif _UPLOAD.fullmatch(word):
            unseen = True
        elif not word.startswith("-") and _FIELD.fullmatch(word):
            data.append(word)  # httpie's fields
        elif len(word) > 2 and re.match(r"-[dFHAeb]", word):
            data.append(word[2:])
        else:
            rest.append(word)
    if call.stdin is not None:
        # A configuration (``-K -``) says where and how; anything else on standard input is sent.
        configures = any(re.match(r"-K|--config", word) for word in rest)
        (rest if configures else data).extend(re.split(r"[\s=\"]+", call.stdin) if configures else [call.stdin])
    return rest, " ".join(data), unseen
