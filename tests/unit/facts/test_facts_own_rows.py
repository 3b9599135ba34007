"""The rows that a training says it has read, against those that it was to be given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook
from harness.facts import own_rows
from harness.ledger.events import Staged
from tests.support.facts import log, sound_job

HERE, OTHER = Sha256("ab" * 32), Sha256("cd" * 32)
LINE = "DATA features rows=1 built={built} sha256={digest}"


def context(source: Path, staged: Mapping[str, Sha256] | None) -> Any:
    """A job of one data file; ``staged``: digests of its package's files, as they were staged."""
    files = {"rows": {"file": "rows.jsonl", "rows": 1, "trainer": "sft"}}
    data = {"directory": "data", "files": files, "proof_line": "ROWS {sft}"}
    training = {"steps": {"sft": 330}, "accumulation": {}}
    job = sound_job(data=data, training=training, package={"source": source}, limits={"s_per_step": {"sft": 4.4}})
    history = SimpleNamespace(staged=None if staged is None else Staged("package", staged))
    return SimpleNamespace(job=job, history=history)


def test_the_rows_are_those_that_were_staged_and_before_that_those_that_lie_here(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_bytes(b"{}\n")
    lie_here = hashlib.sha256(b"{}\n").hexdigest()
    assert own_rows.look(context(tmp_path, None)).get() == {"rows": lie_here}
    assert own_rows.look(context(tmp_path, {"data/rows.jsonl": HERE})).get() == {"rows": HERE}
    lacking = own_rows.look(context(tmp_path, {"train.py": HERE}))
    assert (lacking.problem or "").startswith("data/rows.jsonl is not among the files of ")
    (tmp_path / "data" / "rows.jsonl").unlink()
    assert own_rows.look(context(tmp_path, None)).problem == lacking.problem


@pytest.mark.parametrize(
    ("lines", "run", "found"),
    [
        pytest.param([LINE.format(built=0, digest=HERE)], None, (), id="the log says so"),
        pytest.param([], {"data": {"features": {"sha256": HERE}}}, (), id="run.json says so"),
        pytest.param([LINE.format(built=0, digest=OTHER)], None, ("the log",), id="another in the log"),
        pytest.param([], {"data": {"features": {"sha256": OTHER}}}, ("run.json",), id="another in run.json"),
        pytest.param(
            [LINE.format(built=0, digest=HERE)],
            {"data": {"features": {"sha256": OTHER}}},
            ("run.json",),
            id="the two of them differ",
        ),
        pytest.param([LINE.format(built=0, digest=HERE)], {"data": {"features": [1], "x": {}}}, (), id="odd fields"),
    ],
)
def test_another_digest_than_that_of_the_rows_here_is_named(lines: list[str], run: Any, found: tuple[str, ...]) -> None:
    told = own_rows.differing({"features": HERE}, log(*lines), run)
    assert told == tuple(f"features: {where} announces {OTHER}, here it is {HERE}" for where in found)


@pytest.mark.parametrize("run", [None, [1], {}, {"data": [1]}, {"data": {"features": {"sha256": 7}}}])
def test_rows_of_which_nobody_tells_a_digest_could_not_be_held_against_anything(run: Any) -> None:
    with pytest.raises(CouldNotLook, match="gives the digest of features"):
        own_rows.differing({"features": HERE}, log(), run)


@pytest.mark.parametrize(("built", "run", "found"), [(0, {}, ()), (1, {}, ("features",)), (0, {"x": 3}, ("x",))])
def test_rows_that_a_program_made_are_named_whoever_says_so(built: int, run: Any, found: tuple[str, ...]) -> None:
    told = {"data": {kind: {"built": count} for kind, count in run.items()} | {"y": {"built": 0}}}
    assert own_rows.built(log(LINE.format(built=built, digest=HERE)), told) == found
