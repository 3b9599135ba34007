"""What a command loads before it does anything: held by the modules that are imported, never by a stopwatch."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import main
from harness.emulator import scenario
from harness.job.model import Job

HEAVY = frozenset(
    {"torch", "transformers", "vastai", "requests", "aiohttp", "asyncssh", "numpy", "xllamacpp", "pytest"}
)
ADAPTERS = frozenset({"paramiko", "cryptography", "tree_sitter", "psutil"})
TABLES = frozenset({"pydantic", "sqlalchemy"})
TERMINAL = frozenset({"typer", "rich"})
ROOMS = frozenset({"harness.runner", "harness.facts", "harness.remote", "harness.emulator", "harness.shellguard"})

LOADS_NONE_OF: dict[tuple[str, ...], frozenset[str]] = {
    ("--version",): HEAVY | ADAPTERS | TABLES | TERMINAL | ROOMS,
    ("--help",): HEAVY | ADAPTERS | TABLES | ROOMS | {"harness.wiring"},
    ("status",): HEAVY
    | ADAPTERS
    | ROOMS
    | {"rich", "jinja2", "filelock", "harness.guard", "harness.report", "harness.static", "harness.providers.vast"}
    | {"harness.core.questions", "harness.ledger.ownership", "harness.ledger.throwaway", "harness.ledger.timings"},
}
"""Command lines, and what must not have been imported when they end."""

CALL = """
import sys
sys.argv = ["harness", *sys.argv[1:]]
from harness.cli.entry import main
try:
    main()
except SystemExit:
    pass
sys.stdout.write("\\nLOADED " + " ".join(sorted(sys.modules)))
"""


def loaded(*words: str, home: Path) -> frozenset[str]:
    """Every module, and every package above one, that a call of the command line has imported: three names deep."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, *words],
        capture_output=True,
        text=True,
        check=True,
        env={"HARNESS_HOME": str(home), "PATH": "", "PYTHONPATH": str(Path(main.__file__).parents[2])},
    )
    names = done.stdout.rpartition("LOADED ")[2].split()
    return frozenset(".".join(parts[:count]) for name in names for parts in [name.split(".")] for count in (1, 2, 3))


@pytest.mark.parametrize("words", LOADS_NONE_OF, ids=" ".join)
def test_a_command_loads_what_it_needs_and_no_more(words: tuple[str, ...], tmp_path: Path) -> None:
    assert not loaded(*words, home=tmp_path) & LOADS_NONE_OF[words]


def test_no_pattern_of_a_job_file_takes_long_to_compile() -> None:
    """A bounded repetition of a class of many characters is unrolled: one took a twentieth of every start."""
    bounded = r"\\\\w[^\"]*\{\d"
    assert not re.search(bounded, json.dumps(Job.model_json_schema()))


def test_the_collector_of_garbage_works_again_when_the_command_does(tmp_path: Path) -> None:
    asked = CALL.replace("sys.stdout.write", "import gc; print('COLLECTS', gc.isenabled(), gc.get_freeze_count() > 0);")
    for words, frozen in ((["--help"], False), (["status"], True)):
        done = subprocess.run(
            [sys.executable, "-c", asked, *words],
            capture_output=True,
            text=True,
            check=True,
            env={"HARNESS_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(Path(main.__file__).parents[2])},
        )
        assert f"COLLECTS True {frozen}" in done.stdout


def test_what_is_loaded_would_be_seen(tmp_path: Path) -> None:
    assert {"typer", "harness.cli", "pydantic"} <= loaded("run", "--help", home=tmp_path)


NAMES = (
    "doctor",
    "init",
    "run",
    "demo",
    "fleet",
    "plan",
    "status",
    "monitor",
    "logs",
    "log",
    "ssh",
    "report",
    "serve",
    "export",
    "import",
    "download",
    "verify",
    "destroy",
    "adopt",
    "abandon",
    "orphans",
    "watch",
    "conformance",
    "emulator",
    "guard",
    "release",
    "lessons",
    "rules",
)


def test_the_commands_come_in_the_order_in_which_they_are_listed() -> None:
    assert tuple(main.COMMANDS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_commands_says_what_each_command_says_of_itself(name: str) -> None:
    place, line = main.COMMANDS[name]
    said = inspect.cleandoc(main.load(place, name).help or "").partition("\n\n")[0].replace("\n", " ")
    assert line == said


@pytest.mark.parametrize("name", NAMES)
def test_a_deferred_command_answers_as_itself(name: str) -> None:
    place, _ = main.COMMANDS[name]
    alone = main.load(place, name)
    shown = CliRunner().invoke(main.app, [name, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert CliRunner().invoke(main.app, [name, "-h"], env={"COLUMNS": "200"}).output == shown.output
    assert all(parameter.opts[0] in shown.output for parameter in alone.params if parameter.opts[0].startswith("--"))


@pytest.mark.parametrize("words", [[], ["guard", "lock"], ["release", "show"]], ids=" ".join)
def test_help_is_asked_for_in_one_letter_too(words: list[str]) -> None:
    short, long = (CliRunner().invoke(main.app, [*words, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)


@pytest.mark.parametrize("words", [["demo", "--list"], ["emulator", "--list"]], ids=" ".join)
@pytest.mark.parametrize("columns", ["60", "200"])
def test_the_scenarios_are_listed_on_any_terminal(words: list[str], columns: str) -> None:
    listed = CliRunner().invoke(main.app, words, env={"COLUMNS": columns})
    assert listed.exit_code == 0
    lines = listed.output.splitlines()
    assert tuple(line for line in lines if not line.startswith(" ")) == scenario.names()
    assert max(map(len, lines)) < int(columns)
    told = " ".join(listed.output.split())
    assert f"create-reply-lost {scenario.load('create-reply-lost').about} Ends closed." in told


def test_a_pytest_run_that_judges_nothing_loads_no_part_of_the_engine(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text("def test_theirs():\n    pass\n", encoding="utf-8")
    code = "import sys, pytest; pytest.main(['-q', '-p', 'harness.plugin']); print('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "1 passed" in done.stdout
    rooms = {".".join(name.split(".")[:2]) for name in done.stdout.rpartition("LOADED")[2].split()}
    assert "harness.plugin" in rooms
    assert not rooms & {
        "pydantic",
        "rich",
        "harness.job",
        "harness.gates",
        "harness.facts",
        "harness.log",
        "harness.ledger",
    }
