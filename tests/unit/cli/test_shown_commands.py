"""Every command that README.md and the pages show is one that the programs know, and is run by a test.

The real parsers are asked. What can only be parsed here stands in one table, each with its reason.
"""

from __future__ import annotations

import ast
import configparser
import importlib.util
import re
import sys
import tomllib
from functools import cache
from typing import Any

import pytest
import tree_sitter
import tree_sitter_powershell
from typer.core import TyperCommand

from harness.cli import main as command_line
from tests.support.shown_commands import PAGES, ROOT, Named, Shown, named, shown
from tests.support.typing_commands import Typed, typing
from tests.support.windows_powershell import nodes_of, text_of

ALL = [one for page in PAGES for one in shown(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))]
OPTIONS = [one for page in PAGES for one in named(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))]
STANDS_FOR = {
    "N": "4711",
    "ID": "4711",
    "JOB": "night",
    "...": "training",
    "S": "training",
    "--stage=...": "--stage=all",
}
"""What a person puts in the place of a word of the pages, where a parser would not take the word itself."""

_TABLE = tomllib.loads((ROOT / "tests/support/shown_commands.toml").read_text(encoding="utf-8"))
RUN_BY = {
    shape: (file, test)
    for file, tests in _TABLE["run_by"].items()
    for test, shapes in tests.items()
    for shape in shapes
}
ONLY_PARSED: dict[str, str] = _TABLE["only_parsed"]


# Looking for pip makes setuptools take distutils' place, which it says where another test has imported that before.
pytestmark = pytest.mark.filterwarnings("ignore:Setuptools is replacing distutils:UserWarning")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A keyboard whose commands are parsed to their end, and print their name and options instead of doing anything."""

    def understood(_: Any, context: Any) -> None:
        if context.invoked_subcommand:  # a group's own command runs before the one that was typed
            return
        flags = [
            max(one.opts, key=len)
            for above in (context, context.parent)  # a group has options, too
            for one in above.command.params
            if one.param_type_name == "option" and above.get_parameter_source(one.name).name == "COMMANDLINE"
        ]
        names: list[str] = []
        above = context
        while above.parent is not None:  # the program's own name is as this test run was started
            names, above = [above.info_name, *names], above.parent
        sys.stdout.write(" ".join([*names, *sorted(flags)]))

    monkeypatch.setattr(TyperCommand.mro()[1], "invoke", understood)
    monkeypatch.syspath_prepend(ROOT / "training_pkg")  # a package's own programs run in its folder
    return typing(monkeypatch, capsys)


def _shape(one: Shown, typed: Typed, parser: Any) -> str:
    """Name and options of a command, after its own parser has taken it; raises AssertionError with what that says."""
    words = [STANDS_FOR.get(word, word) for word in one.words]
    if one.program == "harness":
        code, out, err = typed(*words)
        assert code == 0, f"{one}: {' '.join(err.split())}"
        return out
    if one.program == "pytest":
        unknown = parser.parse_known_and_unknown_args(words)[1]
        assert not unknown, f"{one}: pytest knows no {unknown}"
    elif one.program == "tox":
        tox = configparser.ConfigParser(interpolation=None)
        tox.read(ROOT / "tox.ini", encoding="utf-8")
        assert words == [] or (words[0] == "-e" and tox.has_section(f"testenv:{words[1]}")), one
    elif one.program == "powershell":
        own = {"executionpolicy", "file", *_parameters(next(word for word in words if word.endswith(".ps1")))}
        assert not {word[1:].lower() for word in words if word.startswith("-")} - own, one
    else:
        assert importlib.util.find_spec(one.program.split()[-1]), one
        return one.program
    if one.program == "pytest":
        words = [re.sub(r"^(-\w).*", r"\1", word) for word in words]
    flags = {word.partition("=")[0] for word in words if word.startswith("-")}
    return " ".join([one.program, *sorted(flags)])


def _parameters(script: str) -> set[str]:
    path = ROOT / script.replace("\\", "/")
    language = tree_sitter.Language(tree_sitter_powershell.language())
    root = tree_sitter.Parser(language).parse(path.read_bytes()).root_node
    return {
        text_of(child).lstrip("$").lower()
        for node in nodes_of(root)
        if node.type == "script_parameter"
        for child in node.children
        if child.type == "variable"
    }


def _is_a_name(one: Shown) -> bool:
    """It names a command, or a program, in a sentence, and is no line to be typed."""
    if one.typed or one.program.startswith("python"):
        return False
    return not one.words or (
        one.program == "harness" and " ".join(one.words) in {*command_line.COMMANDS, "guard --hook"}
    )


@cache
def _said_in(file: str) -> tuple[frozenset[str], frozenset[str]]:
    """Functions that a test file defines, and every word of its texts; what it takes from ``tests`` is read with it."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.update(node.value.split())
            if node.value.endswith(".md") and (page := ROOT / "docs" / node.value).is_file():  # it runs that page
                words.update(page.read_text(encoding="utf-8").split())
        elif isinstance(node, ast.ImportFrom) and node.module:
            words.update(node.module.split("."))
            for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                other = module.replace(".", "/") + ".py"
                if module.startswith("tests.") and (ROOT / other).is_file():
                    words.add(module)
                    words |= _said_in(other)[1]
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return frozenset(functions), frozenset(words)


@pytest.mark.parametrize("one", ALL, ids=str)
def test_a_command_of_the_pages_is_known_and_run(one: Shown, typed: Typed, pytestconfig: pytest.Config) -> None:
    if _is_a_name(one):
        assert one.program != "harness" or not one.words or one.words[0] in command_line.COMMANDS
        return
    shape = _shape(one, typed, pytestconfig._parser)
    assert shape in {**RUN_BY, **ONLY_PARSED}, f"{shape!r} is in no table of tests/support/shown_commands.toml"


def test_nothing_stands_in_the_tables_that_no_page_shows(typed: Typed, pytestconfig: pytest.Config) -> None:
    told = {" ".join(one.words) if _is_a_name(one) else _shape(one, typed, pytestconfig._parser) for one in ALL}
    assert sorted({**RUN_BY, **ONLY_PARSED}.keys() - told) == []
    assert not RUN_BY.keys() & ONLY_PARSED.keys()
    assert {shape.split()[0] for shape in RUN_BY} >= command_line.COMMANDS.keys(), "every command is run by a test"


@pytest.mark.parametrize("shape", RUN_BY)
def test_the_test_that_runs_a_command_is_there_and_types_its_words(shape: str) -> None:
    file, name = RUN_BY[shape]
    functions, said = _said_in(file)
    assert name in functions
    written = {word.partition("=")[0] for word in said} | {word[:2] for word in said if word.startswith("-")}
    short = {"--follow": "-f", "--defaults": "-y"}
    missing = {word for word in shape.split() if not {word, short.get(word, word)} & written}
    assert not missing - {"python", "-m", "judge"}, f"{file} types no {missing}"


@pytest.mark.parametrize("one", OPTIONS, ids=lambda one: f"{one.place} {one.option}")
def test_an_option_that_a_page_names_by_itself_is_one(one: Named, pytestconfig: pytest.Config) -> None:
    if one.command:
        assert one.option in _options(one.command), f"harness {' '.join(one.command)} knows no {one.option}"
        return
    known = set(_TABLE["not_ours"]).union(*(_options((name,)) for name in command_line.COMMANDS))
    pytest_s = {name for group in pytestconfig._parser._groups for option in group.options for name in option.names()}
    assert one.option in known | pytest_s


@cache
def _options(command: tuple[str, ...]) -> frozenset[str]:
    """Options of a command, those of its own commands with them."""
    name, *deeper = command
    below: Any = command_line.load(command_line.COMMANDS[name][0], name)
    for word in deeper:
        below = below.commands[word]
    every = [below, *getattr(below, "commands", {}).values()]
    return frozenset(word for one in every for parameter in one.params for word in parameter.opts)


WRONG = {
    "a block": ("```bash\nharness run myjob.toml --untill postdownload\n```\n", "No such option"),
    "a block with its prompt": ("```console\n$ harness statsu\nnight\n```\n", "No such command"),
    "a sentence": ("Then `harness watch --ones` ends.\n", "No such option"),
    "a row": ("| `harness logs [JOB] [--folow]` | the log |\n", "No such option"),
    "behind the environment": ("```\nexport A=b && X=1 bin/harness report night --form md\n```\n", "No such option"),
    "by cron": ('```\n*/10 * * * *  A="b c" /home/me/.venv/bin/harness watch --onec\n```\n', "No such option"),
    "by the task scheduler": ('```\nschtasks /TR "C:\\me\\Scripts\\harness.exe watch --onec"\n```\n', "No such option"),
    "a word too many": ("```\nharness release check FILE OTHER\n```\n", "unexpected extra argument"),
    "a stage that is none": ("```\nharness run night --until postdwnload\n```\n", "postdwnload"),
    "of pytest": ("`pytest checks/ --stage=all --jobs=night` judges.\n", "--jobs=night"),
    "of pytest, by python": ("```\n.venv/bin/python -m pytest --durations-mni=3\n```\n", "--durations-mni"),
    "of PowerShell": ("`powershell -File .\\scripts\\download_vastai_model.ps1 -InstanceNr 5`", "instancenr"),
    "of tox": ("`tox -e fuz`", "fuz"),
    "of Python": ("`python -m harness.emulatr`", "emulatr"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_misspelt_word_is_seen(kind: str, typed: Typed, pytestconfig: pytest.Config) -> None:
    text, said = WRONG[kind]
    one, *_ = shown("a page", text)
    assert not _is_a_name(one)
    with pytest.raises((AssertionError, pytest.UsageError), match=said):
        _shape(one, typed, pytestconfig._parser)


def test_a_misspelt_option_of_a_sentence_is_seen(pytestconfig: pytest.Config) -> None:
    of_a_row, alone = named("a page", "| `harness demo` | `--scenaro NAME` |\nand `--replace-dead-instanse` agrees\n")
    assert of_a_row.command == ("demo",)
    for one in (of_a_row, alone):
        with pytest.raises(AssertionError):
            test_an_option_that_a_page_names_by_itself_is_one(one, pytestconfig)
