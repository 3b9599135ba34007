"""The finished model is asked to go on from the job's own prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.facts import runtime

STAND_IN = """
from types import SimpleNamespace
CommonParams = lambda: SimpleNamespace(model=SimpleNamespace(path=None))
class Server:
    def __init__(self, params):
        self.path = params.model.path
    def handle_completions(self, asked):
        return {"usage": {"completion_tokens": 3}, "choices": [{"text": self.path + " after " + asked["prompt"]}]}
"""


def test_the_prompt_is_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xllamacpp.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = runtime.generate(Path("m.gguf"), "ROWS 'and' so on")
    assert (said.loaded, said.tokens, said.text) == (True, 3, "m.gguf after ROWS 'and' so on")
