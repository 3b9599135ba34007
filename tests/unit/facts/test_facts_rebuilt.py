"""A job rebuilt from its box: what it tells is claimed, what is known here goes first; a hostile one is not obeyed."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.artifacts import model_shape
from harness.core import canonical, ids
from harness.core.errors import BadInput
from harness.core.questions import Answers, Question
from harness.facts import adopted, rebuilt
from harness.job import rebuilt as job_file
from harness.job import told
from harness.job.load import load_job, parse_job
from harness.job.model import Job
from harness.job.writing import Stated
from harness.remote.probe import probe
from tests.support import job_histories
from tests.support.local_box import LocalBox

PACKAGE = "training_run"
ROOT = Path(__file__).resolve().parents[3]
STARTS = (
    "examples/starts/job.toml",
    "examples/starts/rehearsal.toml",
    "examples/local.toml",
    "examples/forex-r1-v3.toml",
)


class Host:
    """The part of a ``ports.Host`` that answers questions."""

    def __init__(self, home: Path) -> None:
        self.box = LocalBox(home)

    def probe(self, questions: Sequence[Question[Any]], *, timeout: float = 120.0) -> Answers:
        return probe.ask(self.box.run, questions, timeout)


def own_job(**changes: Any) -> Job:
    """A job of an operator's own, with a name or a place in every field that is nobody else's business."""
    tables: dict[str, dict[str, Any]] = {
        "provider": {"kind": "vast", "user_id": 7771},
        "package": {"source": "/home/secret/pkg", "remote_dir": PACKAGE, "prepare": ["secret-prepare"]},
        "data": {"proof_line": "ROWS {sft} READY", "directory": "data"},
        "training": {"steps": {"sft": 20, "dpo": 0}, "environment": ["SECRET_KEY"], "command": ["secret-train"]},
        "artifact": {"destination": "/home/secret/models", "second_copy_url": "s3://secret/models"},
        "limits": {"budget_usd": 77.71},
        "machine": {"max_usd_per_hour": 77.72},
        "gates": {"checks": ["/home/secret/checks"], "smoke_command": ["secret-smoke"]},
        "teardown": {"confirm": "yes"},
        "notify": {"urls": ["https://secret.example/x"]},
    }
    gone = {f"{kind}": {"file": "gone", "rows": 0, "trainer": "sft"} for kind in job_histories.job().data.files}
    for name, values in changes.items():
        tables[name] = {**tables.get(name, {}), **values}
    tables["data"]["files"] = {**gone, "rows": {"file": "rows.jsonl", "rows": 200, "trainer": "sft"}}
    return job_histories.job(**tables)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The package's folder on a box where that job was launched and has trained."""
    folder = tmp_path / "box" / PACKAGE
    (folder / ".harness").mkdir(parents=True)
    (folder / ".harness" / "launch.json").write_text('{"pid": 1, "started": 1}')
    (folder / ".harness" / told.FILE).write_text(json.dumps(told.told(own_job())))
    (folder / "run.json").write_text(json.dumps(run()))
    (folder / "data").mkdir()
    (folder / "data" / "rows.jsonl").write_text("{}\n" * 200)
    return folder


def run(**changes: Any) -> dict[str, Any]:
    """What the run announced of itself."""
    model = own_job().model
    shape = ("architecture", *model_shape.SIZES)
    said = {
        "model": {"name": model.base, "config": {name: getattr(model, name) for name in shape}},
        "steps": {"sft": 20},
        "batch_size": 32,
        "lora": {"r": 64, "alpha": 128},
        "quantization": ["Q8_0"],
        "data": {"rows": {"path": "data/rows.jsonl", "rows": 200, "sha256": "0" * 64}},
    }
    return said | changes


def look(box: Path, source: Path | None = None, *known: told.JobAccount) -> rebuilt.Found:
    host: Any = Host(box.parent)
    return rebuilt.look(host, PACKAGE, source or box.parent / "nowhere", known)


def written(found: rebuilt.Found) -> tuple[str, Job]:
    """The job file that comes of it, and its job."""
    around = (
        Stated("package", {"source": "mine", "remote_dir": found.remote_dir}, ("Here.",)),
        Stated("provider", {"kind": "vast"}, ("Here.",)),
        Stated("machine", {"gpu": "H100_SXM", "gpus": 8, "max_usd_per_hour": 16.0}, ("Here.",)),
        Stated("limits", {"budget_usd": 20.0}, ("Here.",)),
    )
    path = Path("/home/me/adopted-4711.toml")
    text = job_file.text(told.merged(found.accounts), "adopted", path, around)
    return text, parse_job(text, path)


def test_the_box_is_told_what_a_training_is_judged_by_and_nothing_private() -> None:
    said = json.dumps(told.told(own_job()))
    assert not re.search(r"secret|SECRET|777|s3:|yes", said)
    assert all(word in said for word in ("rows.jsonl", "ROWS {sft} READY", "DeepSeek", "Q8_0", "hidden_size"))


def test_a_rebuilt_job_judges_as_the_lost_one_did(box: Path) -> None:
    text, job = written(look(box))
    lost = own_job()
    assert job.announced == lost.announced
    assert (job.data, job.model) == (lost.data, lost.model)
    assert (job.artifact.quantization, job.artifact.remote_dir) == ("Q8_0", "models/output/final")
    assert job.data.demanded_line == "ROWS 200 READY"
    for field in ("files.rows", "steps", "base", "quantization"):
        before = text[: text.index(f"\n{field} = ")].rpartition("\n#")[2]
        assert "CLAIMED by the box, in .harness/job.json" in before, field


@pytest.mark.parametrize("name", ["tests/support/plain_job.toml", "tests/support/quick_job.toml", *STARTS])
def test_whatever_kind_of_package_was_launched_its_box_tells_the_job(name: str) -> None:
    """An unmodified trainer writes nothing of its own: what the launch left there is all that tells of it."""
    lost = load_job(ROOT / name)
    account = told.account(json.loads(json.dumps(told.told(lost), sort_keys=True)), ".harness/job.json")
    text, job = written(rebuilt.Found(PACKAGE, (account,), (), ids.Sha256(""), (), same=False))
    assert account.left_out == ()
    assert "CLAIMED by the box" in text
    lost_data = lost.data.model_copy(update={"allow_built_rows": False})
    assert (job.announced, job.data, job.model) == (lost.announced, lost_data, lost.model)
    assert list(job.training.steps) == list(lost.training.steps)
    assert (job.training.log, job.training.checkpoints) == (lost.training.log, lost.training.checkpoints)
    assert (job.artifact.kind, job.artifact.remote_dir) == (lost.artifact.kind, lost.artifact.remote_dir)
    assert job.adapter_folder == lost.adapter_folder
    assert job.limits.s_per_step == lost.limits.s_per_step


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"rows": {"path": "data/rows.jsonl", "rows": 10}}}, "data.files.rows.rows: 200"),
        ({"steps": {"sft": 19}}, "training.steps: sft 20"),
        ({"model": {"name": "another/base", "config": {"hidden_size": 64}}}, "model.hidden_size: 3584"),
        ({"model": {"name": "another/base"}}, "model.base: deepseek-ai/"),
        ({"quantization": ["Q4_K_M"]}, "artifact.quantization: Q8_0"),
        ({"lora": {"r": 8}}, "model.lora_r: 64"),
    ],
)
def test_accounts_that_differ_are_named(box: Path, changes: dict[str, Any], said: str) -> None:
    assert told.merged(look(box).accounts).differing == ()
    (box / "run.json").write_text(json.dumps(run(**changes)))
    differing = told.merged(look(box).accounts).differing
    assert any(one.startswith(said) and one.endswith("by run.json") for one in differing), differing


def test_rows_that_were_changed_after_the_fact_differ_from_the_package_here(box: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "data").mkdir(parents=True)
    (mine / "data" / "rows.jsonl").write_text("{}\n" * 200)
    found = look(box, mine)
    assert found.same
    merged = told.merged(found.accounts)
    assert merged.by[told.FILES].known
    assert merged.differing == ()
    (box / "data" / "rows.jsonl").write_text("{}\n" * 10)
    claimed = told.told(own_job())
    claimed["data"]["files"]["rows"]["rows"] = 10  # type: ignore[index, call-overload]
    (box / ".harness" / told.FILE).write_text(json.dumps(claimed))
    (box / "run.json").write_text(json.dumps(run(data={"rows": {"path": "data/rows.jsonl", "rows": 10}})))
    found = look(box, mine)
    assert found.other == ("data/rows.jsonl",)
    assert not found.same
    assert told.merged(found.accounts).differing == (
        "data.files.rows.rows: 200 by the package here, 10 by .harness/job.json",
        "data.files.rows.rows: 200 by the package here, 10 by run.json",
    )
    text, job = written(found)
    assert job.data.counts == {"rows": 200}
    assert "Known here, by the package here." in text
    unasked = rebuilt.look(Host(box.parent), PACKAGE, mine, (), chosen=False)  # type: ignore[arg-type]
    assert (unasked.other, unasked.same) == ((), False)
    assert not told.merged(unasked.accounts).by[told.FILES].known, "a package that nobody has named says nothing"


def test_a_job_that_is_known_here_goes_before_the_box(box: Path) -> None:
    meant = own_job(model={"base": "meant/base", "hidden_size": 1024}, data={"allow_built_rows": True})
    found = look(box, None, told.of_job(meant, "the log of job night"))
    text, job = written(found)
    assert (job.model, job.data) == (meant.model, meant.data)
    assert "model.hidden_size: 1024 by the log of job night, 3584 by .harness/job.json" in found_differing(found)
    assert "CLAIMED" not in text


def found_differing(found: rebuilt.Found) -> tuple[str, ...]:
    return told.merged(found.accounts).differing


def test_what_loosens_a_gate_is_left_to_a_person(box: Path) -> None:
    loose = own_job(
        data={"allow_built_rows": True},
        artifact={"predict": False},
        gates={"context": False, "generate": False},
        training={"accelerator": "cpu"},
    )
    (box / ".harness" / told.FILE).write_text(json.dumps(told.told(loose)))
    text, job = written(look(box))
    assert (job.data.allow_built_rows, job.artifact.predict, job.training.accelerator) == (False, True, "cuda")
    assert (job.gates.context, job.gates.generate) == (True, True)
    meant = parse_job(re.sub(r"(?m)^# ((?:\w+) = (?:true|false|\"cpu\"))$", r"\1", text), Path("/home/me/x.toml"))
    assert meant.data.allow_built_rows
    assert (meant.artifact.predict, meant.training.accelerator) == (False, "cpu")
    assert (meant.gates.context, meant.gates.generate) == (False, False)


def test_without_the_harness_the_files_of_the_shipped_package_tell_the_rows(box: Path) -> None:
    for name in ("launch.json", told.FILE):
        (box / ".harness" / name).unlink()
    files = job_histories.job().data.files
    folder = "data/forex_integrated"
    data = {kind: {"path": f"{folder}/{one.file}", "rows": 5 + len(kind)} for kind, one in files.items()}
    (box / "run.json").write_text(json.dumps(run(data=data, steps={"sft": 330, "dpo": 80})))
    text, job = written(look(box))
    assert job.data.counts == {kind: 5 + len(kind) for kind in files}
    assert {kind: one.trainer for kind, one in job.data.files.items()} == {k: o.trainer for k, o in files.items()}
    assert 'profile = "forex-r1-v3"' in text
    assert job.artifact.floor_bytes == 5_000_000_000


def _set(table: str, field: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda said: said.setdefault(table, {}).update({field: value})


HOSTILE: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "a destination": ("artifact.destination", _set("artifact", "destination", "/etc")),
    "a second copy": ("artifact.second_copy_url", _set("artifact", "second_copy_url", "s3://evil/x")),
    "a source": ("package.source", _set("package", "source", "/")),
    "a folder on the box": ("package.remote_dir", _set("package", "remote_dir", "../../etc")),
    "a command": ("training.command", _set("training", "command", ["rm", "-rf", "/"])),
    "a command that judges": ("package.evaluate", _set("package", "evaluate", ["sh", "-c", "evil"])),
    "consent": ("teardown.confirm", _set("teardown", "confirm", "yes")),
    "variables": ("training.environment", _set("training", "environment", ["AWS_SECRET_ACCESS_KEY"])),
    "checks of its own": ("gates.checks", _set("gates", "checks", ["/tmp/evil"])),
    "a budget": ("limits.budget_usd", _set("limits", "budget_usd", 1e9)),
    "a provider": ("provider.server_url", _set("provider", "server_url", "http://evil")),
    "a floor": ("artifact.floors", _set("artifact", "floors", {"Q8_0": 1})),
    "a looser limit": ("limits.quantizer_error", _set("limits", "quantizer_error", {"Q8_0": 1.0})),
    "rows that may be flawed": ("data.max_flawed_share", _set("data", "max_flawed_share", 1.0)),
    "a path out of the companions": ("training.checkpoints", _set("training", "checkpoints", {"sft": "../../../.ssh"})),
    "an absolute path": ("training.checkpoints", _set("training", "checkpoints", {"sft": "/root/.ssh"})),
    "a home": ("artifact.remote_dir", _set("artifact", "remote_dir", "~/x")),
    "an option": ("artifact.remote_dir", _set("artifact", "remote_dir", "-rf/x")),
    "a Windows device": ("artifact.remote_dir", _set("artifact", "remote_dir", "models/con.txt")),
    "an expansion": ("artifact.remote_dir", _set("artifact", "remote_dir", "$(evil)/x")),
    "a revision over lines": (
        "artifact.base_revision",
        _set("artifact", "base_revision", 'x"\n[teardown]\nconfirm="yes"'),
    ),
    "an escape": ("model.dtype", _set("model", "dtype", "\x1b]0;evil\x07")),
    "a base over lines": ("model.base", _set("model", "base", 'x"\n[teardown]\nconfirm = "yes"\n#')),
    "a direction override": ("model.base", _set("model", "base", "a\u202eb")),
    "a lone surrogate": ("not read", _set("model", "base", "a\ud800b")),
    "a long base": ("model.base", _set("model", "base", "x" * 5000)),
    "a huge number": ("model.vocab_size", _set("model", "vocab_size", 10**30)),
    "a number with too many digits": ("not read", lambda said: said.update(raw="9" * 5000)),
    "no number": ("model.lora_alpha", _set("model", "lora_alpha", float("nan"))),
    "an infinite pace": ("limits.s_per_step", _set("limits", "s_per_step", {"sft": float("inf")})),
    "a truth for a number": ("model.hidden_size", _set("model", "hidden_size", True)),
    "a negative number": ("training.batch_size", _set("training", "batch_size", -1)),
    "a trainer with a quote": ("training.accumulation", _set("training", "accumulation", {'sft"\nx': 1})),
    "many trainers": ("training.accumulation", _set("training", "accumulation", {f"t{n}": 1 for n in range(99)})),
    "a list for a table": ("training.accumulation", _set("training", "accumulation", [[["sft"]]])),
    "deep JSON": ("not read", lambda said: said.update(raw="[" * 90_000)),
    "large JSON": ("not read", lambda said: said.update(padding="x" * (2 << 20))),
    "a field with a strange name": ("model.a", _set("model", 'a"\n\x1b[2J', 1)),
}
ESSENTIAL: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "a data file elsewhere": ("data.files", lambda s: s["data"]["files"]["rows"].update(file="../../../etc/passwd")),
    "a data folder elsewhere": ("data.directory", _set("data", "directory", "../..")),
    "a kind with a quote": ("data.files", lambda s: s["data"]["files"].update({'a"\nb': s["data"]["files"]["rows"]})),
    "more of a data file": ("data.files", lambda s: s["data"]["files"]["rows"].update(source="/etc")),
    "a proof line over lines": ("data.proof_line", _set("data", "proof_line", 'ROWS {sft}\n"')),
    "steps beyond number": ("training.steps", _set("training", "steps", [["sft", 10**30]])),
    "steps that are no pairs": ("training.steps", _set("training", "steps", [1, None])),
    "no steps": ("training.steps", _set("training", "steps", {})),
}


def _hostile(box: Path | None, change: Callable[[dict[str, Any]], object]) -> rebuilt.Found:
    """The accounts of such a box; without one, what its files tell once they are parsed."""
    said: dict[str, Any] = json.loads(json.dumps(told.told(own_job())))
    change(said)
    text = json.dumps(said)
    if "raw" in said:
        text = text.replace(f'"{said["raw"]}"', said["raw"])
    if box is None:
        account = told.account(canonical.parse(text), ".harness/job.json")
        accounts = (account, adopted.by_run(run(), account.fields.get(told.FILES, {})))
        return rebuilt.Found(PACKAGE, accounts, (), ids.Sha256(""), (), same=False)
    (box / ".harness" / told.FILE).write_text(text)
    return look(box)


@pytest.mark.parametrize("name", [*HOSTILE, *ESSENTIAL])
def test_a_hostile_box_chooses_nothing_and_what_it_told_is_named(box: Path, name: str) -> None:
    place, change = (HOSTILE | ESSENTIAL)[name]
    found = _hostile(box if place == "not read" else None, change)
    left_out = [field for one in found.accounts for field in one.left_out]
    assert any(one.startswith(place) for one in left_out) if place != "not read" else found.unread, (left_out, found)
    assert all(one.isprintable() for one in (*left_out, *found.unread, *found_differing(found)))
    text, job = written(found)
    assert all(character.isprintable() or character == "\n" for character in text)
    honest = written(_hostile(None, lambda _: None))[1]
    assert (job.package, job.teardown, job.provider, job.gates) == (
        honest.package,
        honest.teardown,
        honest.provider,
        honest.gates,
    )
    assert (job.training.command, job.training.environment) == (honest.training.command, ())
    assert (job.artifact.destination, job.artifact.second_copy_url) == (None, None)
    assert job.artifact.floor_bytes >= honest.artifact.floor_bytes or name in ESSENTIAL or place == "not read"
    assert (job.limits.budget_usd, job.limits.quantizer_error) == (20.0, honest.limits.quantizer_error)
    assert job.package.source == Path("/home/me/mine")
    assert set(tomllib.loads(text)) <= {
        *(
            "name",
            "profile",
            "package",
            "provider",
            "machine",
            "limits",
            "data",
            "model",
            "training",
            "artifact",
            "gates",
        )
    }


def _manifest(box: Path, *files: tuple[str, str]) -> None:
    listed = [{"path": path, "kind": kind, "bytes": 1, "sha256": "ab" * 32} for path, kind in files]
    (box / "MANIFEST.json").write_text(json.dumps({"contract": 1, "steps": {"sft": 20}, "files": listed}))


@pytest.mark.parametrize(
    ("files", "kind", "folder"),
    [
        ([("out/m.gguf", "gguf"), ("merged/config.json", "model"), ("adapter/x", "adapter")], "gguf", "out"),
        ([("merged/config.json", "model"), ("adapter/x", "adapter")], "merged", "merged"),
        ([("adapter/x", "adapter")], "adapter", "adapter"),
        ([("m.gguf", "gguf")], "gguf", "."),
        ([("run.json", "run")], None, None),
    ],
)
def test_what_was_made_is_told_by_the_manifest(
    box: Path, files: list[tuple[str, str]], kind: str | None, folder: str | None
) -> None:
    before = [one.where for one in look(box).accounts]
    _manifest(box, *files)
    found = look(box)
    assert [one.where for one in found.accounts] == [*before, "MANIFEST.json"]
    last = found.accounts[-1].fields
    assert last["training", "steps"] == {"sft": 20}
    assert (last.get(("artifact", "kind")), last.get(("artifact", "remote_dir"))) == (kind, folder)


def test_what_of_a_box_could_not_be_read_is_told(box: Path, tmp_path: Path) -> None:
    (box / "MANIFEST.json").write_text("{")
    (box / "run.json").write_text("[")
    found = look(box)
    assert [one.partition(":")[0] for one in found.unread] == ["run.json", "MANIFEST.json"]
    assert [one.where for one in found.accounts] == [".harness/job.json"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.py").touch()
    host: Any = Host(box.parent)
    none = rebuilt.look(host, "elsewhere", tmp_path / "mine", ())
    assert none.unread == ("the package there: there is no such folder",)
    assert (none.same, none.other, none.accounts) == (False, (), ())


def test_an_account_that_a_person_names_goes_before_all_others(box: Path) -> None:
    found = look(box)
    surest = told.JobAccount("the operator", {}, known=True)
    assert found.after(surest).accounts == (surest, *found.accounts)


def test_a_home_that_holds_its_packages_under_two_names_has_one_training(box: Path) -> None:
    """``~/workspace`` may be ``/workspace``: the same file, seen twice."""
    host: Any = Host(box.parent)
    (box.parent / "workspace").mkdir()
    (box.parent / "workspace" / PACKAGE).symlink_to(box)
    assert rebuilt.place(host) in {PACKAGE, f"workspace/{PACKAGE}"}


def test_a_run_tells_what_it_read_by_what_is_known_of_its_files() -> None:
    like = own_job().data.files
    account = adopted.by_run(run(), like).fields
    (file,) = account[told.FILES].values()
    assert (file.file, file.rows, file.trainer) == ("rows.jsonl", 200, like["rows"].trainer)
    assert account[told.FOLDER] == "data"
    (alone,) = adopted.by_run(run(), {}).fields[told.FILES].values()
    assert alone.trainer == "sft", "it had one trainer"
    two = adopted.by_run(run(steps={"sft": 20, "dpo": 5}), {})
    assert told.FILES not in two.fields, "whose rows they are, nobody tells"
    spread = {name: {"path": f"{name}/x.jsonl", "rows": 5} for name in ("a", "b")}
    assert told.FOLDER not in adopted.by_run(run(data=spread), {}).fields
    assert adopted.by_run(run(data={"rows": {"path": "x.jsonl", "rows": 5}}), {}).fields[told.FOLDER] == "."
    for several in (["Q8_0", "Q4_K_M"], [], "Q8_0"):
        assert ("artifact", "quantization") not in adopted.by_run(run(quantization=several), {}).fields


@pytest.mark.parametrize(
    ("listed", "steps"),
    [
        ({"steps": {"sft": 3}, "files": [{"kind": "gguf"}]}, {"sft": 3}),
        ({"steps": {"sft": 3}, "files": [{"kind": "adapter"}, 7]}, None),
        ({"steps": {"sft": 3}, "files": "gguf"}, None),
        ([], None),
    ],
)
def test_the_steps_of_a_manifest_count_where_it_lists_a_model(listed: Any, steps: Any) -> None:
    assert adopted.steps_in(listed) == steps


@pytest.mark.parametrize("name", ["../x", "-rf", "a b", "x\ny", "x;y", "$x"])
def test_a_folder_with_an_odd_name_is_not_taken(box: Path, name: str) -> None:
    host: Any = Host(box.parent)
    box.rename(box.parent / name.replace("/", "_").replace("..", "~"))
    assert rebuilt.place(host) is None


def test_of_several_folders_the_one_that_was_launched_in_is_meant_else_a_person_says(box: Path) -> None:
    host: Any = Host(box.parent)
    other = box.parent / "other"
    other.mkdir()
    (other / "run.json").write_text("{}")
    assert rebuilt.place(host) == PACKAGE
    (box / ".harness" / "launch.json").unlink()
    with pytest.raises(
        BadInput, match="several folders on the box may be the training's: other, training_run"
    ) as told_by:
        rebuilt.place(host)
    assert "--remote-dir FOLDER" in told_by.value.remedy


@pytest.mark.parametrize(
    ("label", "job"),
    [
        ("gsh-night-0a1b2c3d", "night"),
        ("gsh-night.2-b-0a1b2c3d", "night.2-b"),
        ("gsh-night-0a1b2c3", None),
        ("gsh-../x-0a1b2c3d", None),
        ("night", None),
        ("", None),
        (None, None),
    ],
)
def test_a_label_names_its_job(label: str | None, job: str | None) -> None:
    assert ids.job_in_label(label) == job
    assert job is None or ids.is_label_of(label, job)
