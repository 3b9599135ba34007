"""Loads a GGUF in a llama.cpp runtime, in a process of its own: a file that crashes it crashes nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from harness.core import canonical
from harness.core.observed import CouldNotLook
from harness.core.text import printable

_TIMEOUT_S = 600.0
_IMPORT_TIMEOUT_S = 60.0
_MARK = "GENERATED "
_PROGRAM = f"""
import json, sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = 256
params.n_predict = 16
params.warmup = False
answer = xllamacpp.Server(params).handle_completions(
    {{"prompt": sys.argv[2], "n_predict": 16, "temperature": 0.0, "cache_prompt": False}}
)
said = {{"tokens": answer["usage"]["completion_tokens"], "text": answer["choices"][0]["text"]}}
print({_MARK!r} + json.dumps(said), flush=True)
"""


@dataclass(frozen=True, slots=True)
class Generation:
    """The runtime's answer: that it loaded the file, the tokens that it generated, and its text or error."""

    loaded: bool
    tokens: int = 0
    text: str = ""
    error: str = ""


def ready() -> str:
    """The version of the runtime that loads here; raises CouldNotLook when none does."""
    ran = _run("import xllamacpp; print(xllamacpp.__version__)", timeout=_IMPORT_TIMEOUT_S)
    if ran.returncode != 0:
        raise CouldNotLook(
            f"the llama.cpp runtime does not load: {printable(ran.stderr.decode('utf-8', 'replace')[-400:], 400)}"
        )
    return printable(ran.stdout.decode("utf-8", "replace").strip(), 100)


def generate(path: Path, prompt: str) -> Generation:
    """Load the file and generate up to 16 tokens after ``prompt``; raises CouldNotLook when there is no runtime."""
    ran = _run(_PROGRAM, str(path), prompt, timeout=_TIMEOUT_S)
    lines = ran.stdout.decode("utf-8", "replace").splitlines()
    told = next((line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)), None)
    if ran.returncode != 0 or told is None:
        return Generation(loaded=False, error=printable(ran.stderr.decode("utf-8", "replace")[-400:], 400))
    answer = canonical.parse(told)
    return Generation(loaded=True, tokens=int(answer["tokens"]), text=printable(str(answer["text"]), 200))


def _run(program: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[bytes]:
    if find_spec("xllamacpp") is None:
        raise CouldNotLook("no llama.cpp runtime is installed: pip install 'gold-standard-harness[runtime]'")
    try:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise CouldNotLook(f"the runtime did not answer within {timeout:.0f} s") from error
