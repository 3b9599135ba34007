"""A job whose ledger is lost, looked for on its box: where its package lies, and what is told of it there.

The box is a stranger. Nothing is started or changed on it, and whatever it tells is an account, never a job.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.artifacts import digest
from harness.artifacts.dataset import lines
from harness.artifacts.manifest import MAX_MANIFEST_BYTES, read_output_manifest
from harness.core import canonical
from harness.core.answers import Tree
from harness.core.errors import BadInput
from harness.core.ids import Sha256
from harness.core.observed import CouldNotLook, Observed
from harness.core.ports import Host
from harness.core.questions import Glob, ReadText, TreeOf
from harness.core.text import one_line
from harness.facts import adopted, run_file
from harness.facts.reading import attempt, json_text
from harness.job import profiles, told
from harness.job.data import DataFile
from harness.job.staging import package_files
from harness.remote.box.outputs import OURS

_MARKS: Final = (f"{OURS}/launch.json", "run.json", "MANIFEST.json")
"""Files by which a folder is one that a training ran in, the surest first."""
_ROOTS: Final = ("/workspace/", "workspace/", "")
"""Folders in which packages lie, the last of them the home."""
_NAME: Final = re.compile(rf"(?:{'|'.join(_ROOTS)})[A-Za-z0-9_][A-Za-z0-9._-]{{0,99}}")


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a box tells of a training: accounts, the surest first.

    ``unread``: what could not be read, and why. ``same`` says whether the package here is the one there, by the digest
    of each of its files; ``other`` names those that are not.
    """

    remote_dir: str
    accounts: tuple[told.JobAccount, ...]
    unread: tuple[str, ...]
    package: Sha256
    other: tuple[str, ...]
    same: bool

    def after(self, surest: told.JobAccount) -> Found:
        """The same behind an account that goes before all others."""
        return replace(self, accounts=(surest, *self.accounts))


def place(host: Host) -> str | None:
    """The folder on the box that a training ran in; None where there is none. Raises BadInput for several."""
    asked = {mark: [Glob(f"{root}*/{mark}") for root in _ROOTS] for mark in _MARKS}
    answers = host.probe([question for questions in asked.values() for question in questions])
    for mark, questions in asked.items():
        found: dict[tuple[str, int, float], str] = {}
        for entry in (entry for one in questions for entry in answers[one].value or ()):
            path = entry.path.removesuffix(f"/{mark}")
            if _NAME.fullmatch(path):  # a home may hold /workspace, by another name
                found.setdefault((posixpath.basename(path), entry.bytes, entry.mtime), path)
        if len(found) > 1:
            raise BadInput(
                f"several folders on the box may be the training's: {', '.join([*found.values()][:5])}",
                remedy="Name it: --remote-dir FOLDER.",
            )
        if found:
            return next(iter(found.values()))
    return None


def look(
    host: Host, remote_dir: str, source: Path, better: tuple[told.JobAccount, ...], *, chosen: bool = True
) -> Found:
    """One probe of a folder on the box, the package here beside it; ``better`` accounts are those known already.

    A package that nobody has ``chosen`` counts only where it is the one there.
    """
    here = {name: digest.of_file(path).sha256 for name, path in package_files(source)} if source.is_dir() else {}
    job = ReadText(posixpath.join(remote_dir, OURS, told.FILE), limit=run_file.MAX_BYTES)
    run = ReadText(posixpath.join(remote_dir, run_file.NAME), limit=run_file.MAX_BYTES)
    listed = ReadText(posixpath.join(remote_dir, "MANIFEST.json"), limit=MAX_MANIFEST_BYTES)
    tree = TreeOf(remote_dir, digests=tuple(sorted(here)), without=OURS)
    answers = host.probe([job, run, listed, tree], timeout=600)
    seen = {"job.json": json_text(answers[job]), "run.json": json_text(answers[run])}
    accounts = [*better]
    if (said := seen["job.json"].value) is not None and said.exists:
        accounts.append(told.account(said.json, f"{OURS}/{told.FILE}"))
    if (ran := seen["run.json"].value) is not None and ran.exists:
        accounts.append(adopted.by_run(canonical.table(ran.json), _files(accounts, ran.json)))
    text = answers[listed].value
    outputs = attempt(lambda: read_output_manifest(text.text)) if text is not None and text.exists else None
    if outputs is not None and outputs.value is not None:
        accounts.append(adopted.by_manifest(outputs.value))
    unread = [f"{name}: {one_line(one.problem, 200)}" for name, one in seen.items() if one.problem]
    unread += [f"MANIFEST.json: {one_line(outputs.problem, 200)}"] if outputs is not None and outputs.problem else []
    there = attempt(lambda: _digests(answers[tree]))
    unread += [f"the package there: {one_line(there.problem, 200)}"] if there.problem else []
    other = tuple(name for name, mine in here.items() if there.value is not None and there.value.get(name) != mine)
    same = bool(here) and there.value is not None and not other
    if not same and not chosen:
        here, other = {}, ()
    accounts[len(better) : len(better)] = _rows_here(source, accounts, here)
    return Found(remote_dir, tuple(accounts), tuple(unread), canonical.digest(here), other, same)


def _digests(tree: Observed[Tree]) -> Mapping[str, Sha256]:
    seen = tree.get()
    if not seen.exists:
        raise CouldNotLook("there is no such folder")
    return {entry.path: entry.sha256 for entry in seen.entries if entry.sha256 is not None}


def _files(accounts: list[told.JobAccount], run: object) -> Mapping[str, DataFile]:
    """The data files by the best account that has them, else by the profile whose files the run read."""
    for one in accounts:
        if files := one.fields.get(told.FILES):
            return dict(files)
    read = canonical.table(canonical.table(run).get("data"))
    paths = {kind: canonical.table(one).get("path") for kind, one in read.items()}
    usual = told.account(profiles.tables(profiles.FIRST), profiles.FIRST).fields
    files = {kind: posixpath.join(usual[told.FOLDER], one.file) for kind, one in usual[told.FILES].items()}
    return dict(usual[told.FILES]) if paths == files else {}


def _rows_here(source: Path, accounts: list[told.JobAccount], here: Mapping[str, Sha256]) -> list[told.JobAccount]:
    """The account of the rows that lie in the package here, where all its data files do."""
    by = told.merged(accounts)
    files, folder = by[told.FILES], by[told.FOLDER] or "."
    paths = {kind: posixpath.normpath(posixpath.join(folder, one.file)) for kind, one in (files or {}).items()}
    if not paths or any(path not in here for path in paths.values()):
        return []
    counted = {}
    for kind, path in paths.items():
        counted[kind] = files[kind].model_copy(update={"rows": lines.count(source / path)})
    return [told.JobAccount("the package here", {told.FILES: counted}, known=True)]
