"""Looks for ways to start training that fail with LoRA: launchers, their flags, their environment. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.shellguard import rules
from harness.shellguard.reading import ProgramCall
from harness.shellguard.seen import Place, Seen, Violation, said

# transformers' and accelerate's spellings: --fsdp, --fsdp_config, --deepspeed, --use_fsdp, --use-deepspeed.
_FLAG = re.compile(r"--(use[_-])?(fsdp|deepspeed)([_-]\w+)*(=(?!false$|no$|0$|$).*)?", re.IGNORECASE)
_ENV = re.compile(r"(ACCELERATE_USE_FSDP|ACCELERATE_USE_DEEPSPEED)=(?!false$|0$|no$|$).+", re.IGNORECASE)
_HELP = frozenset({"-h", "--help"})

MODULES = ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed")
"""Modules that are launchers when they are run with ``python -m``."""


def accelerate(call: ProgramCall, _place: Place) -> Iterator[Seen]:
    """``accelerate launch``; its other commands start no training."""
    if "launch" in call.words[1:3] and not _HELP & set(call.words):
        yield Violation(rules.LAUNCHER, said(call))


def launcher(call: ProgramCall, _place: Place) -> Iterator[Seen]:
    """A program that is nothing but a launcher; its name alone (as some other program's argument) starts nothing."""
    if len(call.words) > 1 and not _HELP & set(call.words[1:2]):
        yield Violation(rules.LAUNCHER, said(call))


def flags(call: ProgramCall) -> Iterator[Seen]:
    """Options and environment variables that turn on FSDP or DeepSpeed in any program."""
    if any(_FLAG.fullmatch(word) for word in call.words[1:]) or any(_ENV.fullmatch(w) for w in call.env + call.words):
        yield Violation(rules.LAUNCHER, said(call) or " ".join(call.env))
