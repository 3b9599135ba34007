"""The safe download for Windows: well-formed PowerShell that calls the harness as the harness wants to be called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell

from harness.shellguard import powershell
from harness.shellguard.judge import judge
from harness.shellguard.programs import CODE
from harness.shellguard.reading import HOLE, ProgramCall, Shell
from harness.shellguard.rules import Decision
from tests.support.windows_powershell import lacks, nodes_of, text_of, unread_exit_codes

SCRIPT = Path(__file__).parents[3] / "scripts" / "download_vastai_model.ps1"
PARAMETERS = ("InstanceId", "Port", "SshHost", "RemotePath", "LocalPath", "JobFile", "Key", "User", "Over")
SPLATTED = re.compile(r"if \(\$(\w+)\) \{ \$(\w+) \+= ('--[^}]+) \}")
OPTION = re.compile(r"'(--[\w-]+)', \$(\w+)")
"""What a splatted array is made of: for each parameter that was given, options and their values."""
FURTHER = {"download": {"--key", "--user", "--over"}, "destroy": {"--job-file", "--local-path"}}


@pytest.fixture(scope="module")
def text() -> str:
    return SCRIPT.read_bytes().decode("ascii")  # Windows PowerShell 5.1 reads a script without a mark as ANSI


@pytest.fixture(scope="module")
def root(text: str) -> tree_sitter.Node:
    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language())).parse(text.encode()).root_node


@pytest.fixture(scope="module")
def calls(text: str) -> tuple[ProgramCall, ...]:
    return powershell.read(text).calls


def test_it_is_well_formed(root: tree_sitter.Node) -> None:
    assert [text_of(node) for node in nodes_of(root) if node.type == "ERROR" or node.is_missing] == []
    assert not root.has_error


def test_its_parameters_are_the_documented_ones(root: tree_sitter.Node, text: str) -> None:
    found = {}
    for node in nodes_of(root):
        if node.type == "script_parameter":
            name = next(text_of(child) for child in node.children if child.type == "variable")
            found[name.removeprefix("$")] = "Mandatory = $true" in text_of(node)
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
        further = [(found[1], OPTION.findall(found[3])) for found in SPLATTED.finditer(text) if found[2] == array]
        assert {option for _, pairs in further for option, _ in pairs} == FURTHER[name] <= taken
        assert all(given == pairs[0][1] for given, pairs in further)
        assert text.count(f"${array} ") == 1 + len(further)


def test_windows_powershell_reads_every_word_of_it() -> None:
    assert lacks(SCRIPT.read_bytes()) == []
    assert unread_exit_codes(SCRIPT.read_bytes()) == []


LATER = {
    "$a = $null ?? 1": "no syntax of 5.1",
    "$a = 1\n$a ??= 2": "no syntax of 5.1",
    "$a = 'x'\n$a?.Length": "no syntax of 5.1",
    "$a = 'x'\n${a}?.Length": "no syntax of 5.1",
    "$a = 'x'\n$a?[0]": "no syntax of 5.1",
    "$a = $true ? 1 : 2": "no syntax of 5.1",
    "harness download && harness destroy": "a chain of pipelines",
    "harness download || exit 1": "a chain of pipelines",
    "harness download &": "no syntax of 5.1",
    "function f { begin { 1 } clean { 2 } }": "no syntax of 5.1",
    "Get-Item x | ForEach-Object -Parallel { $_ }": "foreach-object has no -parallel",
    "Get-Item x | ForEach-Object -ThrottleLimit 2 { $_ }": "foreach-object has no -throttlelimit",
    "Join-Path -Path a -ChildPath b -AdditionalChildPath c": "join-path has no -additionalchildpath",
    "Split-Path -Path a -LeafBase": "split-path has no -leafbase",
    "Get-Content -Path a -AsByteStream": "get-content has no -asbytestream",
    "Set-Content -Path a -Value b -Encoding utf8NoBOM": "-encoding takes no utf8NoBOM",
    "Set-Content -Path a -Value b -Encoding:utf8BOM": "-encoding takes no utf8BOM",
    "Get-Item x | Where-Object -Not y": "where-object has no -not",
    "Read-Host -MaskInput": "read-host has no -maskinput",
    "Get-Error": "no command that is known there: get-error",
    "Test-Json '{}'": "no command that is known there: test-json",
    "Get-Item x | Join-String": "no command that is known there: join-string",
    "Get-Uptime": "no command that is known there: get-uptime",
    "Write-Host $PSStyle.Bold": "$psstyle",
    "if ($IsWindows) { exit 1 }": "$iswindows",
    "if (-not $IsCoreCLR) { exit 1 }": "$iscoreclr",
    "Write-Host $never_set": "$never_set",
    "$a = [System.Text.Json.JsonSerializer]::Serialize(1)": "no type that is known there",
    "$a = 'x'.Contains('X', [StringComparison]::OrdinalIgnoreCase)": "no type that is known there",
    "$a = 'x'.AsSpan()": "no member that is known there: .asspan",
    "param([ValidateSet('a', ErrorMessage = 'b')] [string] $c)": "validateset has no ErrorMessage",
    "param([ValidateNotNullOrWhiteSpace()] [string] $c)": "no attribute that is known there",
    "$a = 'a'..'z'": "a range of characters",
    "$a = 'x' -replace 'x', { 'y' }": "a script block in the place of what replaces",
    "$a = 0b101": "0b101",
    "$a = 1u": "1u",
    'Write-Host "`e[0m"': "an escape",
    'Write-Host "`u{1F600}"': "an escape",
    "#Requires -Version 7.2\nexit 0": "#Requires -Version 7",
    "Write-Host '\u2713'": "not ASCII",
}
"""What came after 5.1, and what is said of it."""


@pytest.mark.parametrize("line", LATER)
@pytest.mark.parametrize("in_ours", [False, True])
def test_what_came_after_windows_powershell_is_seen(line: str, in_ours: bool, text: str) -> None:
    script = f"{text}\n{line}\n" if in_ours and not line.startswith("param(") else line
    assert any(LATER[line] in one for one in lacks(script.encode())), lacks(script.encode())


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_and_line_ends_of_either_system_are_read(text: str, ends: str, mark: bytes) -> None:
    assert lacks(mark + text.replace("\n", ends).encode()) == []
    assert lacks(b"\xef\xbb\xbf" + "Write-Host '\u2713'".encode()) == []


@pytest.mark.parametrize(
    "careless",
    [
        "harness download\nharness destroy\nexit $LASTEXITCODE",
        "harness download",
        "harness download\nWrite-Host done\nexit $LASTEXITCODE",
        "if ($true) {\n    harness download\n}\nexit $LASTEXITCODE",
    ],
)
def test_a_program_whose_exit_code_nobody_reads_is_seen(careless: str) -> None:
    assert "harness download" in unread_exit_codes(careless.encode())


def test_a_program_that_cannot_be_started_has_no_exit_code_of_an_earlier_one(text: str) -> None:
    lines = [line.strip() for line in text.splitlines()]
    calls = [number for number, line in enumerate(lines) if line.startswith(("harness download", "harness destroy"))]
    assert [number for number in calls if lines[number - 1] == "$global:LASTEXITCODE = 127"] == calls != []


def test_destroy_stands_behind_a_download_that_ended_with_zero(root: tree_sitter.Node) -> None:
    steps = [
        text_of(node)
        for node in nodes_of(root)
        if node.type in {"command", "if_statement"} and re.match(r"harness |if \(\$LASTEXITCODE", text_of(node))
    ]
    download, check, destroy = steps
    assert download.startswith("harness download")
    assert re.match(r"if \(\$LASTEXITCODE -ne 0\) \{[^}]*exit \$LASTEXITCODE\s*\}", check)
    assert destroy.startswith("harness destroy")
    guarded = [text_of(node) for node in nodes_of(root) if node.type == "if_statement" and destroy in text_of(node)]
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
