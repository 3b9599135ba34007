"""``harness init``: every answer lands in a job file that loads as it was meant, or is refused with a word."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

from harness.core import shipped
from harness.core.errors import BadInput
from harness.job import schema, writing
from harness.job.load import load_job
from tests.support.typing_commands import typing

ROOT = Path(__file__).resolve().parents[3]
BASE = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and nobody at a terminal."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return folder


@pytest.fixture
def typed(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types a command in that folder; exit code, standard output, standard error."""
    del here
    return partial(typing(monkeypatch, capsys), "init")


def fits_schema(path: Path) -> dict[str, Any]:
    told = tomllib.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(json.loads(schema.FILE.read_text(encoding="utf-8"))).validate(told)
    return told


def test_with_the_defaults_a_job_file_of_the_profile_comes_out(here: Path, typed: Typed) -> None:
    code, out, err = typed("-y")
    assert code == 0, err
    told, job = fits_schema(here / "myjob.toml"), load_job(here / "myjob.toml")
    assert (job.name, job.machine.gpu, job.machine.gpus) == ("myjob", "H100_SXM", 8)
    assert (job.machine.max_usd_per_hour, job.limits.budget_usd) == (16.0, 20.0)
    assert job.package.source == shipped.folder("training_pkg")
    assert "destination" not in told.get("artifact", {})
    assert "training alone 40 min, $10.72" in out
    assert "harness run myjob.toml" in out
    assert "your data is not there yet: data/forex_integrated/real_feature_examples.jsonl, " in out
    first, *_ = (here / "myjob.toml").read_text(encoding="utf-8").splitlines()
    assert first == f"#:schema {schema.FILE.as_uri()}"


def test_every_table_is_explained(here: Path, typed: Typed) -> None:
    typed("-y", "--destination", "models")
    lines = (here / "myjob.toml").read_text(encoding="utf-8").splitlines()
    headers = [number for number, line in enumerate(lines) if line.startswith("[")]
    assert len(headers) == 5
    assert all(lines[number + 1].startswith("# ") for number in headers)


def test_what_is_answered_by_option_is_in_the_file(here: Path, typed: Typed) -> None:
    package = here / "mine"
    data = package / "rows"
    data.mkdir(parents=True)
    for count, name in enumerate(("real_feature_examples", "real_trade_scenarios", "real_dpo_pairs"), start=2):
        (data / f"{name}.jsonl").write_text("{}\n" * count + "\n")
    words = ["--name", "night.1", "--package", "mine", "--data", "rows", "--machine", "2x RTX 4090, $1.5/h, 9 USD"]
    code, _, err = typed(*words, "--destination", "out", "jobs.toml")
    assert code == 0, err
    told, job = fits_schema(here / "jobs.toml"), load_job(here / "jobs.toml")
    assert told["package"]["source"] == "mine"
    assert told["artifact"]["destination"] == "out"
    assert (job.machine.gpu, job.machine.gpus, job.machine.max_usd_per_hour) == ("RTX_4090", 2, 1.5)
    assert job.limits.budget_usd == 9.0
    assert (job.data.directory, [*job.data.counts.values()]) == ("rows", [2, 3, 4])
    assert job.package.source == package
    assert job.artifact.destination == here / "out"


@pytest.mark.parametrize(
    ("machine", "there", "accelerator"),
    [
        ("CPU", {"gpu": "CPU", "gpus": 1}, "cpu"),
        ("2x RTX 4090", {"gpu": "RTX_4090", "gpus": 2}, "cuda"),
        (None, {"gpu": "H100_SXM", "gpus": 8}, "cuda"),
    ],
)
def test_a_machine_of_ones_own_has_no_price_in_its_job_file(
    machine: str | None, there: dict[str, object], accelerator: str, here: Path, typed: Typed
) -> None:
    code, out, err = typed("-y", "--ssh", "box", *(["--machine", machine] if machine else []))
    assert code == 0, err
    told, job = fits_schema(here / "myjob.toml"), load_job(here / "myjob.toml")
    assert told["provider"] == {"kind": "ssh", "host": "box"}
    assert told["machine"] == there
    assert "limits" not in told
    assert (job.training.accelerator, job.is_billed) == (accelerator, False)
    assert "your own machine, nothing is billed" in out
    assert "$" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "My Job"], "--name: not a job name: 'My Job'"),
        (["--name", ""], "--name: not a job name"),
        (["--package", "nowhere"], "--package: 'nowhere' is no folder here"),
        (["--machine", "H100, lots"], "--machine: 'H100, lots' does not read"),
        (["--machine", "0x H100, 3"], "has a 0"),
        (["--machine", "8x H100, 15,95, 20"], "does not read"),
        (["--machine", "8x H100, 0, 20"], "has a 0"),
        (["--machine", ""], "does not read"),
        (["--data", "../elsewhere"], "lies outside of the package"),
        (["--quantization", "Q9_9"], "'Q9_9' is not one of"),
        (["--model", "somebody/unknown"], "the shape of 'somebody/unknown' is not known here"),
        (["--profile", "other"], "there is no profile 'other'; there are: any-training, forex-r1-v3"),
        (["--ssh", "box", "--embedded"], "--ssh names a machine of your own, --embedded one that"),
        (["--ssh", "me@box"], "provider.host"),
        (["--ssh", "box", "--machine", "8x H100, 16"], "--machine: '8x H100, 16' does not read as GPUs"),
        (["--ssh", "box", "--machine", "0x H100"], "does not read as GPUs"),
        (["no/such/folder/job.toml"], "no/such/folder is no place for a file"),
        (["."], "is there already"),
        ([".", "--force"], "no place for a file"),
        (["--destination", "a\nb"], "holds a control character"),
        (["--destination", "a\udcff"], "cannot be written into a file"),
        (["--remote-dir", "~/x"], "begins with '~'"),
    ],
)
def test_an_answer_that_is_none_is_refused_and_leaves_no_file(
    here: Path, typed: Typed, words: list[str], said: str
) -> None:
    code, out, err = typed("-y", *words)
    assert code == 2, out + err
    assert said in " ".join((out + err).split())
    assert not list(here.iterdir())


def test_a_file_that_is_there_is_kept_but_for_force(here: Path, typed: Typed) -> None:
    (here / "myjob.toml").write_text("mine")
    code, _, err = typed("-y")
    assert code == 2
    assert "myjob.toml is there already" in err
    assert "--force" in err
    assert (here / "myjob.toml").read_text() == "mine"
    assert typed("-y", "--force")[0] == 0
    assert load_job(here / "myjob.toml").name == "myjob"


def test_where_nobody_can_be_asked_the_missing_option_is_named(typed: Typed) -> None:
    code, _, err = typed("--name", "x")
    assert code == 2
    assert "nobody can be asked here, and --package is not given" in " ".join(err.split())
    assert "--defaults" in err


def test_a_terminal_is_asked_five_questions_and_again_for_what_is_no_answer(
    here: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    (here / "mine").mkdir()
    answers = iter(["No Name", "night", str(here / "mine"), "", "4x A100, 9", "models"])

    def prompt(text: str, *, default: str, show_default: bool) -> str:
        assert show_default == bool(default)
        asked.append((text, default))
        return next(answers) or default

    monkeypatch.setattr(typer, "prompt", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    code, out, err = typed()
    assert code == 0, err
    assert "not a job name: 'No Name'" in out
    texts = [text for text, _ in asked]
    assert texts[0] == texts[1] == "Name of the job"
    assert len(set(texts)) == 5
    assert asked[4] == ("GPUs, USD an hour at most, budget in USD", "8x H100_SXM, 16, 20")
    job = load_job(here / "night.toml")
    assert (job.machine.gpus, job.machine.max_usd_per_hour, job.limits.budget_usd) == (4, 9.0, 20.0)
    assert job.artifact.destination == here / "models"


@pytest.mark.parametrize(("folder", "words"), [(".", []), ("mine", ["mine/deep/job.toml"])])
def test_a_job_file_does_not_lie_in_its_package(here: Path, typed: Typed, folder: str, words: list[str]) -> None:
    (here / "mine" / "deep").mkdir(parents=True)
    code, _, err = typed(*words, "-y", "--package", folder)
    assert code == 2
    assert "would lie in the package" in err
    assert not list(here.rglob("*.toml"))
    command = shlex.split(" ".join(err.split()).partition("outside of it: harness ")[2].partition(" exit code")[0])
    code, _, err = typed(*command[1:], "-y")
    assert code == 0, err


def test_a_rehearsal_is_the_demos_job_under_another_name(here: Path, typed: Typed) -> None:
    code, out, err = typed("--embedded", "-y")
    assert code == 0, err
    assert "$" not in out
    assert "data" not in out
    fits_schema(here / "rehearsal.toml")
    mine, demo = load_job(here / "rehearsal.toml"), load_job(shipped.folder("examples") / "local.toml")
    assert mine.model_copy(update={"name": demo.name}) == demo


def test_another_base_model_brings_its_shape_and_a_floor(here: Path, typed: Typed) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    }
    (here / "base").mkdir()
    (here / "base" / "config.json").write_text(json.dumps(config))
    code, _, err = typed("-y", "--model", "base")
    assert code == 0, err
    fits_schema(here / "myjob.toml")
    job = load_job(here / "myjob.toml")
    assert job.model.architecture == "LlamaForCausalLM"
    assert (job.model.hidden_size, job.model.vocab_size, job.model.tie_word_embeddings) == (2048, 128256, True)
    assert 0.7e9 < job.artifact.floor_bytes < 0.9e9  # 1.24e9 weights at 8.5 bits, six tenths of it


STRANGE = [
    'a "quoted" name',
    "back\\slash",
    "C:\\models\\new\\tiny",
    "it's",
    "ünïcödé 外 🦙",
    "#not a comment",
    "[table]",
    "x = 1",
    "\u2028line",
    " edge ",
    "~tilde",
    "${HOME} %PATH%",
    "'''",
    '"""',
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_folder_survives_its_way_through_the_file(here: Path, typed: Typed, name: str) -> None:
    folder = here / name
    folder.mkdir()
    code, _, err = typed("-y", "--package", f"./{name}", "--destination", f"./{name}/home")
    assert code == 0, err
    fits_schema(here / "myjob.toml")
    job = load_job(here / "myjob.toml")
    assert job.package.source == folder
    assert job.artifact.destination == folder / "home"


@pytest.mark.parametrize("text", [*STRANGE, "", "\x7f", "tab\t", "line\nfeed", "\x00\x1f"])
def test_any_text_is_the_same_text_in_toml(text: str) -> None:
    assert tomllib.loads(f"x = {writing.literal(text)}")["x"] == text


@pytest.mark.parametrize(
    ("value", "told"), [(True, "true"), (7, "7"), (16.0, "16.0"), (5_000_000_000, "5_000_000_000")]
)
def test_a_number_is_written_as_people_write_it(value: float, told: str) -> None:
    assert writing.literal(value) == told
    assert tomllib.loads(f"x = {told}")["x"] == value


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot be written into a file"):
        writing.literal(os.fsdecode(b"\xff"))


def test_a_path_elsewhere_is_written_in_full(here: Path) -> None:
    assert writing.place(here.parent / "x", here) == str(here.parent / "x")
    assert writing.place(Path("a") / ".." / "b", here) == "b"
    assert writing.place(here, here) == "."


def test_a_field_is_set_in_its_table_and_nowhere_else() -> None:
    text = '# about\n\n[a]\nname = "x"\n\n[b.c]\nname = "y"\n'
    told = writing.with_fields(text, "b.c", {"name": "z", "more": 1}, ("why",))
    assert tomllib.loads(told) == {"a": {"name": "x"}, "b": {"c": {"name": "z", "more": 1}}}
    told = writing.with_fields(writing.with_fields(text, "new", {"n": 1}), "", {"top": True}, ("first",))
    assert tomllib.loads(told) == {"top": True, "a": {"name": "x"}, "b": {"c": {"name": "y"}}, "new": {"n": 1}}
    assert told.startswith("# about\n\n# first\ntop = true\n")


def test_the_schema_is_printed_and_is_what_the_model_says(typed: Typed) -> None:
    code, out, _ = typed("--schema")
    assert code == 0
    assert out == schema.text(), "python -m harness.job.schema > harness/job/schema.json"
    jsonschema.Draft7Validator.check_schema(json.loads(out))


@pytest.mark.parametrize("file", ["examples/local.toml", "examples/forex-r1-v3.toml", "tests/support/quick_job.toml"])
def test_the_examples_fit_the_schema(file: str) -> None:
    fits_schema(ROOT / file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "x"\nprofile = "forex-r1-v3"\n[package]\nsource = "p"\n[limits]\nbudget = 1', "budget"),
        ('name = "x"\nprofile = "forex-r1-v3"\n[package]\nremote_dir = "p"', "source"),
        ('name = "x"\nprofile = "forex-r1-v3"\n[package]\nsource = "p"\n[artifact]\nquantization = "Q9"', "Q9"),
        ('name = "x"\nprofile = 3\n[package]\nsource = "p"', "is not of type 'string'"),
        ('name = "x"\n[package]\nsource = "p"', "provider"),
        ('name = "x"\nadopted = true\nprofile = "forex-r1-v3"\n[package]\nsource = "p"', "adopted"),
        ('name = "x"\nprofile = "forex-r1-v3"\n[package]\nsource = "p"\n[machine]\ngpus = 0', "0 is less than"),
    ],
)
def test_an_editor_sees_what_a_load_would_refuse(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(jsonschema.ValidationError, match=re.escape(said)):
        fits_schema(path)
    with pytest.raises(BadInput):
        load_job(path)


def test_the_schema_tells_what_the_models_docstrings_tell() -> None:
    tables = schema.schema()["$defs"]
    assert "billed beside the hours" in tables["MachineTable"]["properties"]["max_usd_per_gb"]["description"]
    assert tables["LimitsTable"]["description"].startswith("Limits of what the job may cost")
    assert "rounding in bfloat16" in tables["CourseLimits"]["properties"]["dpo_start_nats"]["description"]
