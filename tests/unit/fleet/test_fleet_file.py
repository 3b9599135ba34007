"""The fleet file: what it may say, and what it agrees to."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.core.ids import JobName
from harness.core.lifecycle import ORDER, Stage
from harness.fleet.file import load_fleet
from tests.support.fleets import write_fleet


def _changed(folder: Path, old: str, new: str, *, jobs: int = 2) -> Path:
    file = write_fleet(folder, jobs)
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return file


def test_its_jobs_are_known_by_their_own_names(tmp_path: Path) -> None:
    fleet = load_fleet(write_fleet(tmp_path, 3, more="rate = { jobs = 2, per_s = 60 }"))
    assert [*fleet.jobs] == ["job-0", "job-1", "job-2"]
    assert fleet.jobs[JobName("job-2")].priority == 1
    assert fleet.rate is not None
    assert (fleet.rate.jobs, fleet.rate.per_s) == (2, 60)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "night"', 'name = "Night Owls"', "name: not a job name"),
        ('name = "night"', "", "name: Field required"),
        ("concurrency = 8", "concurrency = 0", "concurrency: Input should be greater than 0"),
        ("concurrency = 8", "concurrency = 8\nconcurrency_per_worker = 9", "is more than concurrency"),
        ("concurrency = 8", "concurency = 8", "concurency: Extra inputs are not permitted"),
        ("concurrency = 8", "concurrency = 8\nrate = { jobs = 1 }", "rate.per_s: Field required"),
        ("[agreed]\nbudget_usd = 40.0\ndestroy = true", "", "agreed: Field required"),
        ("budget_usd = 40.0", "budget_usd = 39.99", "come to $40.00; the file agrees to $39.99"),
        ("budget_usd = 40.0", "budget_usd = nan", "agreed.budget_usd"),
        ("budget_usd = 40.0", "budget_usd = 40.0\nreplace_dead = true", "agreed.replace_dead: Extra inputs"),
        ('file = "1.toml"', 'file = "0.toml"', "are both of job job-0"),
        ('file = "1.toml"', 'file = "2.toml"', "cannot read the job file"),
        ("priority = 1", "priority = 0", "jobs.1.priority"),
        ("concurrency = 8", "concurrency = ", "not TOML"),
        ("concurrency = 8", f"concurrency = {'9' * 30}", "concurrency: Input should be less than"),
        ("concurrency = 8", "concurrency = 8\nrate = { jobs = 1, per_s = 1e300 }", "rate.per_s: Input should be less"),
        ("concurrency = 8", "concurrency = 8\nrate = { jobs = 1, per_s = 1e-300 }", "rate.per_s: Input should be gr"),
        ("concurrency = 8", f"concurrency = 8\nrate = {{ jobs = {'9' * 20}, per_s = 60 }}", "rate.jobs: Input should"),
        ("concurrency = 8", f"concurrency = {'[' * 5000}{']' * 5000}", "nested too deeply"),
        ('file = "1.toml"', 'file = "1\\u0000.toml"', "jobs.file: '1"),
        ('file = "1.toml"', 'file = "night\\\\1.toml"', "cannot read the job file"),
        ('file = "1.toml"', 'file = "night\\\\jobs\\1.toml"', "write Windows paths in single quotes"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(BadInput, match=told.replace("$", r"\$").replace(".", r"\.")):
        load_fleet(_changed(tmp_path, old, new))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read the fleet file"):
        load_fleet(tmp_path / "fleet.toml")


def test_no_jobs_are_no_fleet(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text('name = "x"\nconcurrency = 1\njobs = []\n[agreed]\nbudget_usd = 1\n', encoding="utf-8")
    with pytest.raises(BadInput, match="jobs: Tuple should have at least 1 item"):
        load_fleet(file)


def test_a_machine_of_ones_own_needs_no_money(tmp_path: Path) -> None:
    file = _changed(tmp_path, "budget_usd = 40.0", "budget_usd = 20.0")
    job = tmp_path / "1.toml"
    own = 'kind = "ssh"\nhost = "box"\nuser = "me"'
    job.write_text(job.read_text(encoding="utf-8").replace('kind = "emulated"', own), encoding="utf-8")
    assert len(load_fleet(file).jobs) == 2


@pytest.mark.parametrize("destroy", ["true", "false"])
def test_it_agrees_to_the_destruction_when_it_says_so_and_never_to_another_instance(
    tmp_path: Path, destroy: str
) -> None:
    fleet = load_fleet(_changed(tmp_path, "destroy = true", f"destroy = {destroy}"))
    given = {stage: fleet.options(JobName("job-0"), stage) for stage in ORDER}
    agreeing = {stage for stage, options in given.items() if "--yes" in options}
    assert agreeing == set(ORDER) - (set() if destroy == "true" else {Stage.TEARDOWN})
    assert given[Stage.UPLOAD] == (str(tmp_path / "0.toml"), "--until", "upload", "--plain", "--yes")
    assert not [one for options in given.values() for one in options if "replace" in one or "accept" in one]


def test_a_job_that_it_does_not_name_any_more_is_driven_by_its_name(tmp_path: Path) -> None:
    fleet = load_fleet(write_fleet(tmp_path, 1))
    assert fleet.options(JobName("gone"), Stage.UPLOAD)[0] == "gone"


def test_it_agrees_to_nothing_of_a_job_that_it_does_not_name(tmp_path: Path) -> None:
    """Its budget is not among those that were agreed to: another fleet of the same name has it, or nobody any more."""
    fleet = load_fleet(write_fleet(tmp_path, 1))
    assert not [stage for stage in ORDER if "--yes" in fleet.options(JobName("gone"), stage)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_file_of_any_editor_reads(encoding: str, line: str, tmp_path: Path) -> None:
    file = write_fleet(tmp_path, 1)
    file.write_bytes(file.read_text(encoding="utf-8").replace("\n", line).encode(encoding))
    assert [*load_fleet(file).jobs] == ["job-0"]


def test_a_file_of_powershells_says_how_it_is_saved(tmp_path: Path) -> None:
    file = write_fleet(tmp_path, 1)
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-16")
    with pytest.raises(BadInput, match="it is not UTF-8 but UTF-16") as failed:
        load_fleet(file)
    assert "Set-Content -Encoding utf8" in failed.value.remedy


def test_a_job_file_is_found_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "me"))
    file = _changed(tmp_path, 'file = "1.toml"', 'file = "~/1.toml"')
    (tmp_path / "me").mkdir()
    (tmp_path / "1.toml").rename(tmp_path / "me" / "1.toml")
    assert [*load_fleet(file).jobs] == ["job-0", "job-1"]
