"""The coding agent's hook: what it says, and that no failure of its own lets a command through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.shellguard.hook import HookReply, answer
from harness.shellguard.request import MAX_INPUT, concerns


def _ask(tool: str, command: object, **more: object) -> HookReply:
    return answer(json.dumps({"tool_name": tool, "tool_input": {"command": command, **more}}).encode())


@pytest.mark.parametrize("tool", ["Bash", "PowerShell"])
def test_a_guarded_command_is_denied_with_reason_and_remedy(tool: str) -> None:
    reply = _ask(tool, "vastai destroy instance 5")
    said = json.loads(reply.stdout)["hookSpecificOutput"]
    assert reply.exit_code == 0
    assert (said["hookEventName"], said["permissionDecision"]) == ("PreToolUse", "deny")
    assert "harness destroy" in said["permissionDecisionReason"]
    assert "vastai destroy instance 5" in said["permissionDecisionReason"]


def test_a_command_worth_a_look_is_asked_about() -> None:
    said = json.loads(_ask("Bash", "vastai stop instance 5").stdout)["hookSpecificOutput"]
    assert said["permissionDecision"] == "ask"


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("PowerShell", "vas`Tai destro`y instance 5"),
        ("pwsh", "vas`Tai destro`y instance 5"),
        ("cmd", "vas^tai destr^oy instance 5"),
        ("bash", "va''stai des\\troy instance 5"),
    ],
)
def test_the_tool_decides_the_language(tool: str, line: str) -> None:
    assert json.loads(_ask(tool, line).stdout)["hookSpecificOutput"]["permissionDecision"] == "deny"


def test_a_harmless_command_and_another_tool_get_no_answer() -> None:
    assert _ask("Bash", "ls -la") == HookReply(0)
    assert answer(b'{"tool_name": "Write", "tool_input": {"content": "vastai destroy instance 5"}}') == HookReply(0)


@pytest.mark.parametrize(
    ("request_", "judged"),
    [
        (b'{"tool_name": "Write", "tool_input": {"content": "vastai destroy instance 5"}}', False),
        (b'{"tool_name": "Bash", "tool_input": {"command": "ls"}}', False),
        (b'{"tool_name": "Bash", "tool_input": {"command": "vastai destroy instance 5"}}', True),
        (b"{", True),
    ],
)
def test_the_cheap_look_passes_on_what_it_cannot_read(request_: bytes, judged: bool) -> None:
    assert concerns(request_) is judged


def test_a_download_in_the_agents_background_is_denied() -> None:
    line = "scp -P 22 root@h:/w/models/output/final/x.gguf ."
    assert _ask("Bash", line) == HookReply(0)
    assert "deny" in _ask("Bash", line, run_in_background=True).stdout


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"tool_input": {"command": "ls"}}',
        b'{"tool_name": 5, "tool_input": {"command": "ls"}}',
        b'{"tool_name": "Bash"}',
        b'{"tool_name": "Bash", "tool_input": {}}',
        b'{"tool_name": "Bash", "tool_input": {"command": ["ls"]}}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b" " * (MAX_INPUT + 1),
    ],
)
def test_what_cannot_be_read_is_blocked(request_: bytes) -> None:
    reply = answer(request_)
    assert reply.exit_code == 2
    assert reply.stdout == ""
    assert "blocked" in reply.stderr


def test_the_answer_carries_no_terminal_escape() -> None:
    reply = _ask("Bash", "vastai destroy instance 5 '\x1b]0;x\x07\x1b[2J\u202e'")
    reason = json.loads(reply.stdout)["hookSpecificOutput"]["permissionDecisionReason"]
    assert reason.isprintable()


def test_an_unpaired_surrogate_is_no_way_through() -> None:
    asked = b'{"tool_name": "Bash", "tool_input": {"command": "vastai destroy instance 5 \\ud800"}}'
    assert "deny" in answer(asked).stdout


# --- the process ------------------------------------------------------------------------------


def _process(request_: bytes, *code: str) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, *(code or ("-m", "harness.shellguard"))]
    return subprocess.run(argv, input=request_, capture_output=True, check=False, timeout=60)


def test_the_process_speaks_the_protocol() -> None:
    done = _process(b'{"tool_name": "Bash", "tool_input": {"command": "vastai destroy instance 5"}}')
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert _process(b"no json").returncode == 2


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("import sys; sys.modules['harness.shellguard.request'] = None", b"ModuleNotFoundError"),
        ("import harness.shellguard.request as r; r.concerns = lambda request: 1 / 0", b"ZeroDivisionError"),
        ("import sys; sys.executable = '/nowhere/python'", b"FileNotFoundError"),
        ("import sys; sys.executable = 'false'", b"status 1"),
        ("import harness.shellguard.__main__ as m; m.TIMEOUT_S = 0.01", b"TimeoutExpired"),
    ],
)
def test_a_guard_that_fails_blocks(broken: str, said: bytes) -> None:
    code = f"{broken}; import harness.shellguard.__main__ as m; import sys; sys.exit(m.main())"
    done = _process(b'{"tool_name": "Bash", "tool_input": {"command": "vastai show user"}}', "-c", code)
    assert (done.returncode, done.stdout) == (2, b"")
    assert said in done.stderr


def test_a_grammar_that_fails_blocks() -> None:
    broken = "import sys; sys.modules['tree_sitter'] = None"
    code = f"{broken}; import harness.shellguard.__main__ as m; sys.exit(m.main(inner=True))"
    done = _process(b'{"tool_name": "Bash", "tool_input": {"command": "vastai show user"}}', "-c", code)
    assert done.returncode == 2
    assert b"ModuleNotFoundError" in done.stderr


def test_a_crash_in_a_grammar_blocks(tmp_path: Path) -> None:
    killer = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    crashing = tmp_path / "python"
    crashing.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{killer}'\n", encoding="utf-8")
    crashing.chmod(0o755)
    code = (
        f"import sys; sys.executable = {str(crashing)!r}; import harness.shellguard.__main__ as m; sys.exit(m.main())"
    )
    done = _process(b'{"tool_name": "Bash", "tool_input": {"command": "vastai show user"}}', "-c", code)
    assert done.returncode == 2
    assert b"status -11" in done.stderr


def test_a_harmless_command_loads_no_grammar() -> None:
    code = (
        "import sys; from harness.shellguard.__main__ import main; code = main(); "
        "heavy = {'tree_sitter', 'typer', 'rich', 'pydantic', 'vastai', 'paramiko', 'torch'} & set(sys.modules); "
        "sys.exit(9 if heavy else code)"
    )
    assert _process(b'{"tool_name": "Bash", "tool_input": {"command": "ls -la"}}', "-c", code).returncode == 0


def test_the_command_that_the_example_settings_name_is_the_hook() -> None:
    settings = json.loads((Path(__file__).parents[3] / "examples" / "agent-settings.json").read_text(encoding="utf-8"))
    (entry,) = settings["hooks"]["PreToolUse"]
    assert set(entry["matcher"].split("|")) == {"Bash", "PowerShell"}
    (command,) = entry["hooks"]
    assert command["type"] == "command"
    name, *args = command["command"].split()
    assert name == "harness"
    start = f"import sys; sys.argv = {[name, *args]}; from harness.cli.entry import main; main()"
    done = _process(b'{"tool_name": "Bash", "tool_input": {"command": "vastai destroy instance 5"}}', "-c", start)
    assert b'"deny"' in done.stdout
    assert _process(b"", "-c", start).returncode == 2


def test_the_hook_needs_no_other_part_of_the_command_line() -> None:
    start = (
        "import sys; sys.modules['harness.cli.main'] = None; sys.modules['typer'] = None; "
        "sys.argv = ['harness', 'guard', '--hook']; from harness.cli.entry import main; main()"
    )
    done = _process(b'{"tool_name": "Bash", "tool_input": {"command": "vastai destroy instance 5"}}', "-c", start)
    assert (done.returncode, b'"deny"' in done.stdout) == (0, True)


def test_every_other_command_is_the_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cli import entry, main

    called = []
    monkeypatch.setattr(main, "main", lambda: called.append(sys.argv[1:]))
    monkeypatch.setattr(sys, "argv", ["harness", "guard", "--", "guard", "--hook"])
    entry.main()
    assert called == [["guard", "--", "guard", "--hook"]]


def test_the_hook_starts_fast() -> None:
    def spent() -> float:
        times = os.times()
        return times.children_user + times.children_system

    before = spent()
    _process(b'{"tool_name": "Bash", "tool_input": {"command": "vastai destroy instance 5"}}')
    # Seconds of processor time, whatever else this machine does; 0.15 where it is quiet. An agent waits for it
    # before every command.
    assert spent() - before < 1.0
