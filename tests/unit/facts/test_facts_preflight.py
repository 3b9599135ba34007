"""Preflight's looks one by one, over small folders: what could not be read is said so, and what is left out is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.artifacts import elsewhere
from harness.artifacts.dataset.sound import Flaw
from harness.core.errors import BadInput, MissingExtra, ProviderUnavailable
from harness.core.observed import CouldNotLook, Observed, seen
from harness.core.ports import Account
from harness.facts import preflight, preflight_data, runtime
from harness.facts.preflight_data import Context
from harness.job import staging
from harness.job.model import Job
from harness.ledger.events import ArtifactRecorded, Fetched
from harness.static import sources
from tests.support.facts import SHA, sound_job

ROW = {"prompt": "p" * 40, "completion": "c" * 40}


def a_job(**tables: Any) -> Job:
    """One data file; a context of 80 tokens."""
    files = {"rows": {"file": "rows.jsonl", "rows": 1, "trainer": "sft"}}
    own: dict[str, dict[str, Any]] = {
        "data": {"directory": "data", "files": files, "proof_line": "ROWS {sft}"},
        "training": {"steps": {"sft": 330}, "accumulation": {}},
        "limits": {"s_per_step": {"sft": 4.4}},
        "model": {"max_length": 80, "template_tokens": 0, "base": "base"},
    }
    for name, fields in tables.items():
        own[name] = {**own.get(name, {}), **fields}
    return sound_job(**own)


def package(folder: Path, *rows: dict[str, Any]) -> Path:
    """A package with these rows, and a tokenizer that makes a token of each byte."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def tokenizer(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    alphabet = {letter: at for at, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def cut_off(job: Job, root: Path, built: Path | None = None) -> Context:
    return preflight_data.context(job, preflight_data.read(job, root), root, built)


@pytest.mark.parametrize(
    ("more", "cut"),
    [
        ({}, 0),
        ({"completion": "c" * 41}, 1),
        ({"system": "s"}, 1),
        ({"completion": "é" * 20}, 0),
        ({"completion": "é" * 21}, 1),
    ],
)
def test_a_row_may_have_as_many_tokens_as_the_context_and_not_one_more(
    more: dict[str, Any], cut: int, tmp_path: Path
) -> None:
    root = package(tmp_path / "package", ROW, ROW | more)
    tokenizer(root / "base")
    told = cut_off(a_job(), root)
    assert (told.rows, told.cut, told.share) == (2, cut, cut / 2)
    whole = cut_off(a_job(model={"template_tokens": 1}), root)
    assert whole.cut == 2, "the template takes its own"


def test_a_row_of_more_bytes_than_tokens_is_counted_and_fits(tmp_path: Path) -> None:
    built = tokenizer(tmp_path / "built")
    told = json.loads(built.read_text())
    told["model"]["vocab"]["cc"] = len(told["model"]["vocab"])
    told["model"]["merges"] = [["c", "c"]]
    built.write_text(json.dumps(told))
    long = ROW | {"completion": "c" * 80}
    told_of = cut_off(a_job(), package(tmp_path / "package", ROW, long), built)
    assert (told_of.rows, told_of.cut) == (2, 0)
    assert told_of.how == "1 rows with more than 80 bytes counted with built/tokenizer.json"


def test_what_the_system_says_is_learnt_from_too_and_of_no_rows_no_share_is_cut(tmp_path: Path) -> None:
    root = package(tmp_path / "package", ROW | {"system": "s"})
    tokenizer(root / "base")
    assert cut_off(a_job(), root).cut == 1
    assert Context(0, 0, "").share == 0.0


@pytest.mark.parametrize(("chosen", "rejected", "cut"), [(40, 40, 0), (41, 1, 1), (1, 41, 1)])
def test_of_two_answers_the_longer_one_counts(chosen: int, rejected: int, cut: int, tmp_path: Path) -> None:
    files = {"rows": {"file": "rows.jsonl", "rows": 1, "trainer": "sft", "rows_are": "preferences"}}
    row = {"prompt": "p" * 40, "chosen": "a" * chosen, "rejected": "b" * rejected}
    root = package(tmp_path / "package", row)
    tokenizer(root / "base")
    assert cut_off(a_job(data={"files": files}), root).cut == cut


def test_rows_that_could_not_be_read_or_counted_are_not_said_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CouldNotLook, match="no row could be read: see dataset_rows_parse"):
        cut_off(a_job(), package(tmp_path / "empty"))
    root = package(tmp_path / "package", ROW | {"completion": "c" * 41})
    with pytest.raises(CouldNotLook, match="1 of 1 rows have more than 80 bytes, and the tokenizer of base is neither"):
        cut_off(a_job(), root)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match=r"tokenizer\.json is not a tokenizer: "):
        cut_off(a_job(), root, tmp_path / "odd" / "tokenizer.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match="counting the tokens of long rows"):
        cut_off(a_job(), root, tmp_path / "odd" / "tokenizer.json")
    (root / "data" / "rows.jsonl").unlink()
    with pytest.raises(CouldNotLook, match=r"data/rows\.jsonl is not there: see package_files_complete"):
        preflight_data.read(a_job(), root)


def test_a_tokenizer_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = package(tmp_path / "package", ROW | {"completion": "c" * 41})
    size = tokenizer(root / "base").stat().st_size
    monkeypatch.setattr(preflight_data, "_MAX_TOKENIZER_BYTES", size)
    assert cut_off(a_job(), root).cut == 1
    monkeypatch.setattr(preflight_data, "_MAX_TOKENIZER_BYTES", size - 1)
    with pytest.raises(CouldNotLook, match="and the tokenizer of base is neither"):
        cut_off(a_job(), root)


def test_the_cache_of_the_hub_is_asked_and_without_its_library_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import errors

    def cached(base: str, name: str) -> str | None:
        if base.startswith("/"):
            raise errors.HFValidationError("no name of a repository")
        return str(tmp_path / name) if base == "a/b" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    assert preflight_data.cached("a/b", "tokenizer.json") == tmp_path / "tokenizer.json"
    assert preflight_data.cached("a/c", "tokenizer.json") is None
    assert preflight_data.cached("/a/b", "tokenizer.json") is None
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert preflight_data.cached("a/b", "tokenizer.json") is None


@pytest.mark.parametrize(("count", "last"), [(0, None), (20, 19), (21, "and 1 more"), (50, "and 30 more")])
def test_how_many_more_findings_there_are_is_said(count: int, last: object) -> None:
    told = preflight._first(tuple(map(str, range(count))))
    assert (told[-1] if told else None) == (None if last is None else str(last))
    assert len(told) == min(count, 21)


def test_a_batch_size_that_the_entry_does_not_set_could_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import settings\n")
    (tmp_path / "settings.py").write_text("BATCH_SIZE = 8\n")
    there = sources.read(tmp_path, ["train.py", "settings.py"])
    with pytest.raises(CouldNotLook, match=r"^train\.py does not set BATCH_SIZE "):
        preflight._batch_size(there, "train.py")
    (tmp_path / "train.py").write_text("import settings\nBATCH_SIZE = 8\n")
    assert preflight._batch_size(sources.read(tmp_path, ["train.py", "settings.py"]), "train.py") == 8


def test_a_device_map_that_is_computed_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        'AutoModel.from_pretrained(device_map="auto")\nAutoModel.from_pretrained(device_map=chosen())\n'
    )
    told = preflight._device_maps(sources.read(tmp_path, ["train.py"]), "train.py")
    assert told.found == {"train.py:1": "auto"}
    assert [one.partition(":")[2].partition(":")[0] for one in told.unreadable] == ["2"]


def test_a_package_that_is_not_staged_has_no_sources(tmp_path: Path) -> None:
    with pytest.raises(CouldNotLook, match="not staged yet"):
        preflight._sources(tmp_path / "none")


@pytest.mark.parametrize("names", [(), ("train.py",)])
def test_until_the_package_is_prepared_what_it_lacks_and_what_proves_it_are_not_known(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(package={"prove": ["python3", "-m", "lib.prove"]}, training={"strategy": "ddp"})
    for must, told in ((True, preflight.NOT_YET), (False, None)):
        monkeypatch.setattr(staging, "must_be_prepared", lambda *_, must=must: must)
        if told is None:
            assert preflight._prover(job, names) == ""
            assert job.package.entry in preflight._lacking(job, frozenset())
            continue
        with pytest.raises(CouldNotLook, match=told):
            preflight._prover(job, names)
        with pytest.raises(CouldNotLook, match=told):
            preflight._lacking(job, frozenset())
        assert preflight._prover(job, (*names, "lib/prove.py")) == "lib/prove.py"


def test_the_address_of_a_second_copy_is_tried_before_a_cent_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(elsewhere, "require", tried.append)
    for second in ({"second_copy_url": "s3://mine/models", "second_copy": None}, {"second_copy": tmp_path}):
        context: Any = SimpleNamespace(job=sound_job(artifact=second), destination=tmp_path / "home")
        assert preflight._free_bytes(context) > 0
    assert tried == ["s3://mine/models"]
    (tmp_path / "file").touch()
    second = {"second_copy": tmp_path / "file"}
    context = SimpleNamespace(job=sound_job(artifact=second), destination=tmp_path / "home")
    with pytest.raises(CouldNotLook, match="file"):
        preflight._free_bytes(context)


def test_flaws_beyond_their_limit_and_those_within_it_are_two_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "package"
    package(root, ROW)
    (root / "train.py").write_text("pass\n")
    flaws = tuple(Flaw("rows.jsonl", f"rule {beyond}", "odd", (), 1, 1, beyond=beyond) for beyond in (True, False))
    monkeypatch.setattr(preflight_data, "judged", lambda *_: flaws)
    monkeypatch.setattr(preflight, "_at_once", lambda *_: dict.fromkeys(AT_ONCE, seen(())))
    job = a_job(gates={"smoke_run": False}, package={"entry": "train.py"})
    context: Any = SimpleNamespace(job=job, directory=tmp_path, show=lambda *_: None)
    told = preflight.look(context)
    assert [len(one.get()) for one in (told.unsound_rows, told.suspect_rows)] == [1, 1]
    assert "rule True" in told.unsound_rows.get()[0]
    assert "rule False" in told.suspect_rows.get()[0]
    assert told.counts.get() == {"rows": 1}
    assert isinstance(told.smoke, Observed)


def _recorded(*names: str) -> Any:
    """A history in which files of these names were recorded on a box, and others fetched."""
    recorded = tuple(ArtifactRecorded(f"/box/{name}", 1, SHA) for name in names[::2])
    fetched = tuple(Fetched(f"/home/{name}", 1, SHA, None) for name in names[1::2])
    return SimpleNamespace(all=lambda kind: recorded if kind is ArtifactRecorded else fetched)


@pytest.mark.parametrize(
    ("kind", "there", "own", "older"),
    [
        ("gguf", ["a.gguf", "B.GGUF", "notes.txt", "night"], (), ("B.GGUF", "a.gguf")),
        ("gguf", ["a.gguf", "b.gguf", "c.gguf"], ("a.gguf", "b.gguf"), ("c.gguf",)),
        ("gguf", [".a.gguf.0badcafe.part", ".c.gguf.0badcafe.part"], ("a.gguf",), (".c.gguf.0badcafe.part",)),
        ("gguf", ["a.gguf.of.another"], ("a.gguf",), ()),
        ("gguf", ["xa.gguf"], ("a.gguf",), ("xa.gguf",)),
        ("merged", ["forex-r1-v3", "another"], (), ("forex-r1-v3",)),
        ("merged", ["forex-r1-v3"], ("forex-r1-v3",), ()),
    ],
)
def test_an_older_model_at_the_destination_is_what_this_job_did_not_bring(
    kind: str, there: list[str], own: tuple[str, ...], older: tuple[str, ...], tmp_path: Path
) -> None:
    for name in there:
        (tmp_path / name).touch()
    job = sound_job(artifact={"kind": kind, "floor": 1, "remote_dir": "models/x"})
    context: Any = SimpleNamespace(job=job, history=_recorded(*own), destination=tmp_path)
    assert preflight._older(context) == older
    context.destination = tmp_path / "none"
    assert preflight._older(context) == ()


def test_what_is_told_already_is_not_looked_at_again_and_a_silent_provider_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    job = a_job(package={"source": tmp_path / "source"}, gates={"generate": False})
    monkeypatch.setattr(runtime, "ready", lambda: pytest.fail("a job that generates nothing needs none"))

    def away() -> Any:
        raise ProviderUnavailable("502")

    context: Any = SimpleNamespace(
        job=job,
        directory=tmp_path / "job",
        destination=tmp_path,
        provider=away,
        public_key="ssh-ed25519 AAAA",
        history=_recorded(),
    )
    told = preflight.first_look(context)
    assert (told.account.problem, told.orphans.problem) == ("502", preflight.NOT_YET)
    assert told.runtime.problem == preflight.NOT_YET
    assert told.public_key.get() == "ssh-ed25519 AAAA"
    assert (told.device_maps.problem, told.context.problem) == (preflight.NOT_YET, preflight.NOT_YET)
    known = preflight.first_look(context, account=seen(Account(7, 100.0)), orphans=seen(("instance 9",)))
    assert (known.account.get().user_id, known.orphans.get()) == (7, ("instance 9",))


AT_ONCE = ("runtime", "local_free_bytes", "destination_files", "public_key", "account", "orphans")
