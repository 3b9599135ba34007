"""A job file: every mistake is named with its line, its field and what is allowed; paths are the file's own."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import BadInput
from harness.job.load import load_job
from harness.job.model import Job

ROOT = Path(__file__).resolve().parents[3]
BASE = 'name = "night"\nprofile = "forex-r1-v3"\n\n[package]\nsource = "pkg"\n'


def _load(folder: Path, text: str) -> Job:
    file = folder / "job.toml"
    file.write_text(text, encoding="utf-8")
    return load_job(file)


@pytest.mark.parametrize("name", ["forex-r1-v3.toml", "local.toml"])
def test_the_examples_fit(name: str) -> None:
    job = load_job(ROOT / "examples" / name)
    assert job.package.source == ROOT / "training_pkg"
    assert job.data.demanded_line == ("V2 FOREX INTEGRATION: 15300 SFT + 2550 DPO samples from YOUR data")
    assert job.training.batch_size == 32
    assert job.training.device_map == "auto"


def test_the_real_job_has_the_numbers_that_were_paid_for() -> None:
    job = load_job(ROOT / "examples" / "forex-r1-v3.toml")
    assert (job.machine.gpu, job.machine.gpus, job.machine.disk_gb, job.machine.max_usd_per_hour) == (
        "H100_SXM",
        8,
        150,
        16,
    )
    assert (job.training.steps, job.training.checkpoint_every) == ({"sft": 330, "dpo": 80}, 100)
    assert job.limits.s_per_step == {"sft": 4.4, "dpo": 6.0}
    assert job.artifact.floors["Q8_0"] == 5_000_000_000
    assert job.artifact.floors["Q4_K_M"] == 3_000_000_000
    assert job.teardown.confirm == "ask"
    assert job.provider.kind == "vast"


def test_a_prompt_that_fits_the_real_model_fits_the_smoke_runs_small_vocabulary() -> None:
    job = load_job(ROOT / "examples" / "forex-r1-v3.toml")
    tried = tomllib.loads(job.gates.smoke_files["smoke.toml"])
    assert tried["model"]["max_length"] == 8 * job.model.max_length


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (BASE + "\n[limits]\nbudgetusd = 3\n", ("line 8: limits.budgetusd", "no such field", "allowed: budget_usd, ")),
        (BASE + '\n[limits]\nbudget_usd = "much"\n', ("line 8: limits.budget_usd", "valid number", "'much'")),
        (BASE + "\n[limits]\nbudget_usd = nan\n", ("line 8: limits.budget_usd", "finite")),
        (BASE + "\n[limits]\nbudget_usd = -1\n", ("line 8: limits.budget_usd", "greater than 0", "-1")),
        (BASE + '\n[artifact]\nquantization = "Q5"\n', ("line 8: artifact.quantization", "'F16', 'Q8_0' or 'Q4_K_M'")),
        (
            BASE + '\n[data]\nproof_line = "ROWS {sft}"\n',
            ("line 7: data", "of every trainer that has files, once each: {sft}, {dpo}"),
        ),
        (BASE + '\n[data]\nproof_line = "PLAN\\n{sft}/{dpo}"\n', ("line 8: data.proof_line", "one printable line")),
        (
            BASE + '\n[data]\nproof_line = "[sft] COMPLETE {sft}/{dpo} steps"\n',
            ("line 8: data.proof_line", "the log says something else"),
        ),
        (BASE + '\n[provider]\nkind = "aws"\n', ("line 8: provider.kind", "'aws'", "known here: emulated, ")),
        (BASE + '\n[provider]\nscenario = "x"\n', ("line 8: provider.scenario", "no such setting; allowed: kind, ")),
        (BASE + '\n[training]\ncommand = ["a", 3]\n', ("line 8: training.command.1", "valid string")),
        (BASE + "\n[artifact]\nfloors = { Q9 = 1 }\n", ("line 8: artifact.floors.Q9", "'Q8_0'")),
        (BASE + '\n["limits"]\nbudget_usd = 0\n', ("line 8: limits.budget_usd",)),
        ("limits.budget_usd = -1\n" + BASE, ("line 1: limits.budget_usd",)),
        (BASE + "surprise = 1\n", ("line 6: package.surprise", "allowed: source, ")),
        ("surprise = 1\n" + BASE, ("line 1: surprise", "allowed: profile, name, provider, ")),
        (BASE.replace("night", "No Way"), ("line 1: name", "a-z 0-9", "No Way")),
        (BASE.replace("night", "../up"), ("line 1: name", "../up")),
        (BASE.replace("forex-r1-v3", "nope"), ("'nope' is not one of any-training, forex-r1-v3",)),
        (BASE.replace('"forex-r1-v3"', "3"), ("is not one of any-training, forex-r1-v3",)),
        ('name = "night"\n', ("provider: Field required", "profile = 'any-training' or 'forex-r1-v3'")),
        ('name = "n"\nprofile = "forex-r1-v3"\n', ("package.source: Field required",)),
        ('name = "n"\nprofile = "forex-r1-v3"\npackage = "x"\n', ("line 3: package", "a table is needed")),
        (BASE + '\n[training]\ncommand = "python3 x.py"\n', ("line 8: training.command", 'needed: ["one", "two"]')),
        (BASE + '\n[artifact]\nfloors = "5GB"\n', ("line 8: artifact.floors", "a table is needed")),
        (BASE.replace('"pkg"', '"C:\\Users\\kevin"'), ("not TOML", "single quotes: 'C:\\models\\mine'")),
        ("x = " + "[" * 5000, ("nested too deeply",)),
        ("x = ", ("not TOML",)),
        (BASE + "[package]\n", ("not TOML", "line 6")),
        (BASE.replace('"pkg"', '"C:\\models\\x"'), ("not TOML", "single quotes: 'C:\\models\\mine'")),
        (BASE.replace('"pkg"', '"C:\\new\\table"'), ("package.source", "single quotes")),
        (BASE.replace('"pkg"', '"a\\u0000b"'), ("package.source", "control character")),
        (BASE.replace('"pkg"', '"~nobody-of-this-name/x"'), ("package.source", "no path on this machine")),
        (BASE + '\n[gates]\nchecks = ["a\\tb"]\n', ("gates.checks", "control character")),
        (BASE + 'remote_dir = "~/training"\n', ("package.remote_dir", "'~/training'", "not expanded on the box")),
        (BASE + 'remote_dir = "~"\n', ("package.remote_dir", "not expanded on the box")),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, named: tuple[str, ...]) -> None:
    with pytest.raises(BadInput) as refused:
        _load(tmp_path, text)
    for words in named:
        assert words in str(refused.value)
    assert "job.toml" in str(refused.value)
    assert refused.value.exit_code == 2


URL = "mailtos://me:hunter2@example.org"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f'[notifications]\nurls = ["{URL}"]\n', "notifications: there is no such field"),
        (f'[notify]\nurl = "{URL}"\n', "notify.url: there is no such field; allowed: urls"),
        (f'[notify]\nurls = "{URL}"\n', "notify.urls"),
        (f'[notify]\nurls = [["{URL}"]]\n', "notify.urls"),
        (f'[notify.urls]\nmail = "{URL}"\n', "notify.urls"),
        (f'[teardown]\nnotify = ["{URL}"]\n', "teardown.notify: there is no such field"),
        (f'[teardown]\nconfirm = "{URL}"\n', "teardown.confirm: Input should be 'ask' or 'yes'"),
        (f'[teardown]\nconfirm = {{ urls = ["{URL}"] }}\n', "teardown.confirm"),
        (f'[[gates]]\nurls = ["{URL}"]\n', "gates: a table is needed"),
        ('[notifications]\ntopic = "hunter2"\n', "notifications: there is no such field"),
    ],
)
def test_a_url_in_the_wrong_place_is_not_shown(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput) as refused:
        _load(tmp_path, f"{BASE}\n{text}")
    assert named in str(refused.value)
    assert "hunter2" not in f"{refused.value} {refused.value.remedy}"


def test_only_a_line_with_a_backslash_is_told_of_windows_paths(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not TOML") as refused:
        _load(tmp_path, BASE + 'remote_dir = "x\n')
    assert "Windows" not in str(refused.value)


def test_no_job_file_is_told_to_say_that_it_is_adopted(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="surprise") as refused:
        _load(tmp_path, "surprise = 1\n" + BASE)
    assert "adopted" not in str(refused.value)


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be"], ids=["a byte order mark", "little endian", "big endian"]
)
def test_a_file_in_utf_16_is_told_so(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "job.toml").write_bytes(BASE.encode(encoding))
    with pytest.raises(BadInput, match="UTF-16, as PowerShell's > writes it") as refused:
        load_job(tmp_path / "job.toml")
    assert "Set-Content -Encoding utf8" in refused.value.remedy


def test_a_windows_editors_byte_order_mark_and_line_ends_are_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(BASE.replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_job(tmp_path / "job.toml").name == "night"


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        _load(tmp_path, BASE + "\n[limits]\nbudget_usd = 0\nstall_s = -1\n\n[machine]\ngpus = 0\n")
    assert [f"line {number}:" in str(refused.value) for number in (8, 9, 12)] == [True] * 3


def test_a_strangers_escape_sequences_are_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        _load(tmp_path, BASE + '\n[machine]\ngpus = "\\u001b[2J"\n')
    assert "\x1b" not in str(refused.value)


def test_paths_are_the_files_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    text = BASE + '\n[artifact]\ndestination = "../out"\nsecond_copy = "copy"\n\n[gates]\nchecks = ["mine"]\n'
    job = _load(tmp_path, text)
    assert job.package.source == tmp_path.resolve() / "pkg"
    assert job.artifact.destination == tmp_path.resolve().parent / "out"
    assert job.artifact.second_copy == tmp_path.resolve() / "copy"
    assert job.gates.checks == (tmp_path.resolve() / "mine",)


def test_a_path_below_home_is_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "me"))
    assert _load(tmp_path, BASE.replace('"pkg"', '"~/pkg"')).package.source == (tmp_path / "me" / "pkg").resolve()


def test_a_windows_path_in_single_quotes_keeps_its_backslashes(tmp_path: Path) -> None:
    job = _load(tmp_path, BASE.replace('"pkg"', "'C:\\Users\\kevin\\forex'"))
    assert "C:\\Users\\kevin\\forex" in str(job.package.source)


def test_what_the_file_says_wins_over_the_profile_field_by_field(tmp_path: Path) -> None:
    job = _load(tmp_path, BASE + "\n[limits]\nbudget_usd = 33\n\n[artifact]\nfloors = { Q8_0 = 7 }\n")
    assert job.limits.budget_usd == 33
    assert job.limits.s_per_step == {"sft": 4.4, "dpo": 6.0}
    assert job.artifact.floor_bytes == 7
    assert job.artifact.floors["Q4_K_M"] == 3_000_000_000


def test_the_first_users_profile_is_a_job_but_for_its_package(tmp_path: Path) -> None:
    assert _load(tmp_path, BASE).name == "night"


def test_the_profile_of_any_training_leaves_open_what_is_trained_and_what_it_may_cost(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        _load(tmp_path, BASE.replace("forex-r1-v3", "any-training"))
    told = {line.split(":")[0].strip() for line in str(refused.value).splitlines()[1:]}
    open_ = {"provider", "machine.gpu", "machine.max_usd_per_hour", "data", "model", "training.steps", "limits"}
    assert told == {*open_, "artifact"}


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="cannot read the job file"):
        load_job(tmp_path / name)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="cannot read the job file"):
        load_job(tmp_path / "job.toml")


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60), st.sampled_from(["", BASE, BASE + "\n[limits]\n"]))
def test_no_text_is_more_than_bad_input(tmp_path: Path, text: str, base: str) -> None:
    try:
        (tmp_path / "job.toml").write_bytes((base + text).encode("utf-8", "surrogatepass"))
        job = load_job(tmp_path / "job.toml")
    except BadInput:
        return
    assert job.name


def test_a_loaded_job_survives_its_own_event(tmp_path: Path) -> None:
    job = _load(tmp_path, BASE)
    assert Job.model_validate(job.model_dump(mode="json")) == job


def test_the_order_of_the_trainers_survives_a_record(tmp_path: Path) -> None:
    """A record sorts the keys of its tables, and DPO comes after SFT whatever their names."""
    job = _load(tmp_path, BASE)
    assert job.trainers == ("sft", "dpo")
    recorded = json.loads(json.dumps(job.model_dump(mode="json"), sort_keys=True))
    assert Job.model_validate(recorded).trainers == ("sft", "dpo")
