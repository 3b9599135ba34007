"""Texts that something else made of what was written: lost characters, chat formats, a service's errors. Pure."""

from __future__ import annotations

import re
from typing import Final

from harness.artifacts.dataset.search import Search, anywhere

_TRAIL: Final = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"  # noqa: RUF001 - bytes 80 to BF in Windows' code page
_DAMAGED: Final = re.compile(
    "\ufffd|[\0-\x08\x0e-\x1a]|ï¿½|ï»¿|\ufeff|锟斤拷"
    f"|Ã{_TRAIL}|Â[\xa0-\xbf]|â€{_TRAIL}|â(?:‚¬|„¢)|ðŸ{_TRAIL}|(?:[ÐÑ]{_TRAIL}){{2}}|(?:[à-ï]{_TRAIL}{{2}}){{2}}"  # noqa: RUF001 - UTF-8 read as cp1252
)
_TURN_MARK: Final = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|eom_id|begin_of_text|end_of_text|start_header_id|end_header_id|system|user"
    r"|assistant|end|return|channel|start|message)\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<\uff5c[^<>\n]{1,30}\uff5c>"
)
_ERROR: Final = (
    r"rate.?limit|insufficient_quota|quota exceeded|exceeded your current quota|overloaded|too many requests"
    r"|context.?length|maximum context|content.?(?:filter|management)|internal server error|bad gateway"
    r"|gateway time-?out|service (?:is )?(?:temporarily )?unavailable|timed? ?out|max retries exceeded|unauthorized"
    r"|invalid.?(?:api.?key|request)|authentication|connection (?:error|reset|refused|aborted)|upstream|server error"
    r"|no response|failed to (?:generate|fetch|get|connect)|request failed"
)
_HTTP: Final = r"\b(?:4(?:00|01|03|04|08|13|22|29)|5(?:00|02|03|04|20|22|24|29))\b"
_SERVICE_ERROR: Final = re.compile(
    r"\A[\s\W]*(?:"
    r"\"?error\"?\s*:\s*\{"
    r"|(?:\w+\.)*(?:api|openai|anthropic|http|server|ratelimit|request|connection|timeout|service\w*|llm|model)?\s?"
    rf"(?:error|exception|failed|failure)\b\W{{0,3}}(?:code\W{{0,3}})?(?:{_HTTP}|[^\n]{{0,80}}?(?:{_ERROR}))"
    rf"|(?:http(?:/\d(?:\.\d)?)?\s+)?{_HTTP}\W{{0,3}}(?:client error|server error|{_ERROR})"
    r"|traceback \(most recent call last\):[\s\S]{0,2000}?(?:openai|anthropic|requests|urllib3|httpx|aiohttp|api)"
    r"|<(?:!doctype )?html[\s\S]{0,200}?(?:bad gateway|error|unavailable)"
    r"|upstream connect error|rate limit (?:reached|exceeded)|you exceeded your current quota"
    r"|this model's maximum context length|(?:internal server error|request timed out)\W*\Z)",
    re.IGNORECASE,
)
_EXPLAINED: Final = re.compile(
    r"\b(?:means?|indicates?|occurs?|happens?|refers?|usually|typically|is (?:a|an|the|returned|caused)|"
    r"you (?:can|should))\b",
    re.IGNORECASE,
)
_MAX_ERROR: Final = 2000  # characters; a longer answer is about an error


def _service_error(text: str, _asked: str) -> re.Match[str] | None:
    """An error message of the service that was to write the answer; an explanation of one is an answer."""
    if len(text) > _MAX_ERROR:
        return None
    match = _SERVICE_ERROR.match(text)
    return match if match is not None and _EXPLAINED.search(text) is None else None


DAMAGED: Final = Search(
    anywhere(_DAMAGED), re.compile(rb"\\u|\xef\xbf\xbd|\xef\xbb\xbf|\xc3[\x82\x83\x90\x91\xa0-\xaf\xb0]|\xe9\x94\x9f")
)
"""Replacement characters, zero bytes, and UTF-8 that was decoded as something else."""

TURN_MARK: Final = Search(
    anywhere(_TURN_MARK),
    re.compile(
        rb"<\|[a-z_]+\|>|<(?:start|end)_of_turn>|\[/?inst\]|<</?sys>>|<\xef\xbd\x9c|\\u\w*(?:im_start|im_end|user|assistant)"
    ),
)
"""Marks of a chat format inside a turn: the format is applied twice, or a turn is faked."""

SERVICE_ERROR: Final = Search(
    _service_error,
    re.compile(
        rb"error|exception|failed|failure|traceback|rate limit|exceeded your|maximum context|timed out"
        rb"|too many requests|unavailable|bad gateway"
    ),
)
"""Error messages of the service that was to write the answer."""
