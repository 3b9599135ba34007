"""The safe download for Windows: well-formed PowerShell that calls the harness as the harness wants to be called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell

from harness.shellguard import powershell
from harness.shellguard.judge import judge
from harness.shellguard.programs import CODE
from harness.shellguard.reading import HOLE, ProgramCall, Shell
from harness.shellguard.rules import Decision

SCRIPT = Path(__file__).parents[3] / "scripts" / "download_vastai_model.ps1"
PARAMETERS = ("InstanceId", "Port", "SshHost", "RemotePath", "LocalPath", "JobFile", "Key", "User", "Over")
SPLATTED = re.compile(r"if \(\$(\w+)\) \{ \$(\w+) \+= '(--[\w-]+)', \$(\w+) \}")
"""What a splatted array is made of: for each parameter that was given, an option and its value."""
FURTHER = {"download": {"--key", "--user", "--over"}, "destroy": {"--job-file"}}
NEWER = ("&&", "||", "??", "?.", "-Parallel", "clean {")
"""Words of PowerShell 7 at which Windows PowerShell 5.1 stops."""


@pytest.fixture(scope="module")
def text() -> str:
    return SCRIPT.read_bytes().decode("ascii")  # Windows PowerShell 5.1 reads a script without a mark as ANSI


@pytest.fixture(scope="module")
def root(text: str) -> tree_sitter.Node:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(text.encode()).root_node


@pytest.fixture(scope="module")
def calls(text: str) -> tuple[ProgramCall, ...]:
    return powershell.read(text).calls


def _nodes(node: tree_sitter.Node) -> Iterator[tree_sitter.Node]:
    yield node
    for child in node.children:
        yield from _nodes(child)


def _text(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode()


def test_it_is_well_formed(root: tree_sitter.Node) -> None:
    assert [_text(node) for node in _nodes(root) if node.type == "ERROR" or node.is_missing] == []
    assert not root.has_error


def test_its_parameters_are_the_documented_ones(root: tree_sitter.Node, text: str) -> None:
    found = {}
    for node in _nodes(root):
        if node.type == "script_parameter":
            name = next(_text(child) for child in node.children if child.type == "variable")
            found[name.removeprefix("$")] = "Mandatory = $true" in _text(node)
    assert tuple(found) == PARAMETERS
    assert [name for name, mandatory in found.items() if mandatory] == ["InstanceId", "Port", "SshHost"]
    helped = re.findall(r"^\.PARAMETER (\w+)$", text, re.MULTILINE)
    assert tuple(helped) == PARAMETERS
    assert all(f".{section}\n" in text for section in ("SYNOPSIS", "DESCRIPTION", "EXAMPLE", "OUTPUTS"))


def test_it_runs_the_harness_and_no_posix_tool(calls: tuple[ProgramCall, ...]) -> None:
    programs = {call.words[0] for call in calls}
    cmdlets = {name for name in programs if re.fullmatch(r"[A-Z][a-z]+-[A-Z]\w+", name)}
    assert programs - cmdlets - {CODE} == {"harness"}


def test_every_option_it_gives_is_one_that_the_command_takes(calls: tuple[ProgramCall, ...], text: str) -> None:
    from harness.cli.main import COMMANDS, load

    given = [call.words[1:] for call in calls if call.words[0] == "harness"]
    assert [words[0] for words in given] == ["download", "destroy"]
    for name, *rest in given:
        taken = {option for parameter in load(COMMANDS[name][0], name).params for option in parameter.opts}
        options = [word for word in rest if word.startswith("--")]
        assert set(options) <= taken
        # each option is followed by one value, held in a variable: PowerShell passes it as one argument
        assert rest == [*(part for option in options for part in (option, HOLE)), HOLE]
        (array,) = re.findall(rf"^ *harness {name} .* @(\w+)\r?$", text, re.MULTILINE)
        assert f"[string[]] ${array} = @()" in text  # with none given, nothing is passed
        further = [found.groups() for found in SPLATTED.finditer(text) if found[2] == array]
        assert {option for _, _, option, _ in further} == FURTHER[name] <= taken
        assert all(given == value for given, _, _, value in further)
        assert text.count(f"${array} ") == 1 + len(further)


def test_windows_powershell_reads_every_word_of_it(root: tree_sitter.Node) -> None:
    code = [_text(node) for node in _nodes(root) if not node.children and node.type not in {"comment", "string"}]
    assert not [word for word in code if any(newer in word for newer in NEWER)]


def test_destroy_stands_behind_a_download_that_ended_with_zero(root: tree_sitter.Node) -> None:
    steps = [
        _text(node)
        for node in _nodes(root)
        if node.type in {"command", "if_statement"} and re.match(r"harness |if \(\$LASTEXITCODE", _text(node))
    ]
    download, check, destroy = steps
    assert download.startswith("harness download")
    assert re.match(r"if \(\$LASTEXITCODE -ne 0\) \{[^}]*exit \$LASTEXITCODE\s*\}", check)
    assert destroy.startswith("harness destroy")
    guarded = [_text(node) for node in _nodes(root) if node.type == "if_statement" and destroy in _text(node)]
    assert guarded
    assert guarded[0].startswith("if ($PSCmdlet.ShouldProcess(")
    assert "exit $LASTEXITCODE" in guarded[0]


def test_the_guard_lets_it_and_its_call_through(text: str) -> None:
    assert judge(text, Shell.POWERSHELL).decision is Decision.ALLOW
    line = r".\scripts\download_vastai_model.ps1 -InstanceId 5 -Port 22 -SshHost ssh5.vast.ai -LocalPath 'D:\my models'"
    line += r" -Key C:\Users\me\.ssh\id_ed25519 -User root -Over 150kB"
    assert judge(line, Shell.POWERSHELL).decision is Decision.ALLOW


def test_a_script_that_forgets_the_check_is_seen() -> None:
    careless = "harness download --instance-id $i\nvastai destroy instance $i"
    assert judge(careless, Shell.POWERSHELL).decision is Decision.DENY
