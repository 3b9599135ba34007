"""Whatever a line is dressed in: if a shell would run the guarded act, the command guard holds the line."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.shellguard.judge import judge, judge_argv
from harness.shellguard.reading import Shell
from harness.shellguard.rules import Decision

ACT = ("vastai", "destroy", "instance", "5")

# --- disguises, each of which leaves what bash runs unchanged ---------------------------------------


@st.composite
def _spelled(draw: st.DrawFn, word: str) -> str:
    """One word in some quoting that bash takes away again."""
    out = ""
    for letter in word:
        style = draw(st.sampled_from(["plain", "single", "double", "backslash", "ansi", "empty", "continued"]))
        out += {
            "plain": letter,
            "single": f"'{letter}'",
            "double": f'"{letter}"',
            "backslash": f"\\{letter}",
            "ansi": f"$'\\x{ord(letter):02x}'",
            "empty": f"''{letter}",
            "continued": f"\\\n{letter}",
        }[style]
    return out


_BLANKS = st.sampled_from([" ", "  ", "\t", " \\\n "])


@st.composite
def _act(draw: st.DrawFn) -> str:
    words = [draw(_spelled(word)) for word in ACT]
    glue = draw(_BLANKS)
    flag = draw(st.sampled_from(["", "--raw ", "--api-key K ", "--ap=K "]))
    return words[0] + glue + flag + glue.join(words[1:])


_PROGRAMS = ("env X=1 ", "env -u Y ", "nohup ", "nice -n 1 ", "timeout 9 ", "xargs -n 1 ")
# @ is the line so far, % the line quoted as one word.
_BLOCKS = (
    "( @ )",
    "{ @; }",
    "true && @",
    "false || @",
    "true; @",
    "@ > /dev/null 2>&1",
    "@ | cat",
    "echo 5 | @",
    "time @",
    "echo $( @ )",
    'echo "$( @ )"',
    "if true; then @; fi",
    "for i in 1; do @; done",
    "case x in x) @;; esac",
    "cat < <( @ )",
    "true # no \\\n@",
)
_LAST = ("@", "@ ;", "@ &", "@ #", "f() { @; }; f", "bash <<'END'\n@\nEND", "cat <<'END' | bash\n@\nEND")
_CARRIED = (
    "@",
    "eval %",
    "bash -c %",
    "echo % | bash",
    "bash <<< %",
    "env -u Y bash -c %",
    "trap % EXIT",
    'C=%; eval "$C"',
)


def _put(line: str, into: str) -> str:
    return "".join({"@": line, "%": shlex.quote(line)}.get(sign, sign) for sign in into)


@st.composite
def _disguised(draw: st.DrawFn) -> str:
    line = draw(st.sampled_from(["", "X=1 ", "command ", "exec "]))
    line += "".join(draw(st.lists(st.sampled_from(_PROGRAMS), max_size=2))) + draw(_act())
    for block in draw(st.lists(st.sampled_from(_BLOCKS), max_size=2)):
        line = _put(line, block)
    return _put(_put(line, draw(st.sampled_from(_LAST))), draw(st.sampled_from(_CARRIED)))


@settings(max_examples=400)
@given(_disguised())
def test_no_disguise_lets_the_act_through(line: str) -> None:
    assert judge(line).decision is Decision.DENY


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories with nothing on the PATH but a vastai that writes down its arguments, and harmless programs."""
    root = tmp_path_factory.mktemp("world")
    (root / "bin").mkdir()
    (root / "cwd").mkdir()
    for name in ("bash", "sh", "env", "nohup", "nice", "timeout", "cat", "xargs", "tr", "printf", "find", "true"):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not on this machine")
        (root / "bin" / name).symlink_to(found)
    # Within a pipeline the word is a program, not installed everywhere; this one runs all that the keyword would.
    time = root / "bin" / "time"
    time.write_text('#!/usr/bin/env bash\neval "$(printf \'%q \' "$@")"\n', encoding="utf-8")
    time.chmod(0o755)
    stub = root / "bin" / "vastai"
    stub.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" '' >> '{root}/calls'\n", encoding="utf-8")
    stub.chmod(0o755)
    return root


def _run(world: Path, line: str) -> list[tuple[str, ...]]:
    """The arguments of every vastai that a real bash starts for a line."""
    calls = world / "calls"
    calls.unlink(missing_ok=True)
    env = {"PATH": str(world / "bin"), "HOME": str(world / "cwd"), "LC_ALL": "C.UTF-8"}
    read, write = os.pipe()
    # Every process that the line leaves behind holds the pipe open, whatever it does with its own output.
    with subprocess.Popen(
        ["bash", "--norc", "-c", line],
        env=env,
        cwd=world / "cwd",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(write,),
    ):
        os.close(write)
        assert select.select([read], [], [], 20)[0], "the line did not end"
    os.close(read)
    if not calls.exists():
        return []
    return [tuple(block.split("\n")) for block in calls.read_text().strip("\n").split("\n\n")]


_QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@_QUICK
@given(_disguised())
def test_the_disguises_are_real(world: Path, line: str) -> None:
    assert any(" ".join(call).startswith(("destroy", "--")) and "5" in call for call in _run(world, line))


_SHARDS = (
    *ACT, ";", "|", "&", "&&", "||", "(", ")", "{", "}", "$(", "`", "'", '"', "\\", "#", "$X", "X=", "<<E", "E", "<<<",
    "$'", "${", "\n",
)  # fmt: skip


@_QUICK
@example("vastai show user; vastai destroy\tinstance 5")
@given(
    st.lists(
        st.one_of(
            st.sampled_from(_SHARDS),
            st.text(alphabet="abc \t'\"\\$`", max_size=3),
        ),
        max_size=14,
    ).map(" ".join)
)
def test_what_bash_runs_is_what_the_guard_saw(world: Path, line: str) -> None:
    """Random shards of shell, most of them broken: whatever guarded act bash still starts, the command guard holds."""
    for call in _run(world, line):
        if judge_argv(("vastai", *call)).decision is Decision.DENY:
            assert judge(line).decision is Decision.DENY


# --- PowerShell, by its documented rules of quoting (about_Quoting_Rules, about_Operators) -------------


@st.composite
def _powershell_word(draw: st.DrawFn, word: str) -> str:
    style = draw(st.sampled_from(["plain", "single", "double", "backtick", "sum", "variable"]))
    at = draw(st.integers(1, len(word)))
    # A backtick in front of these letters makes a control character; in front of any other it is nothing.
    ticked = "".join(f"`{c}" if c not in "abefnrtuv0" and c.isalpha() else c for c in word)
    return {
        "plain": word,
        "single": f"'{word}'",
        "double": f'"{word}"',
        "backtick": ticked,
        "sum": f"('{word[:at]}' + \"{word[at:]}\")",
        "variable": f'"${{w{word}}}"',
    }[style]


_POWERSHELL_BLOCKS = (
    "@",
    "Get-Date; @",
    "Get-Date && @",
    "if ($true) { @ }",
    "1 | ForEach-Object { @ }",
    "foreach ($i in 1) { @ }",
    "try { @ } catch { }",
    "Write-Host $(@)",
    "Invoke-Command -ScriptBlock { @ }",
    "@ | Out-Null",
    "@ # done",
    "$x = @",
    "Invoke-Expression %",
    "% | iex",
    "pwsh -NoProfile -Command %",
)


@settings(max_examples=400)
@given(st.data())
def test_no_powershell_disguise_lets_the_act_through(data: st.DataObject) -> None:
    words = [data.draw(_powershell_word(word)) for word in ACT]
    glue = data.draw(st.sampled_from([" ", "  ", " `\n  "]))
    line = "& " + glue.join(words)
    for block in data.draw(st.lists(st.sampled_from(_POWERSHELL_BLOCKS), max_size=3)):
        quoted = "'" + line.replace("'", "''") + "'"
        line = "".join({"@": line, "%": quoted}.get(sign, sign) for sign in block)
    known = "; ".join(f"$w{word} = '{word}'" for word in ACT)
    assert judge(f"{known}; {line}", Shell.POWERSHELL).decision is Decision.DENY


# --- in other words -----------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.data(), st.sampled_from([Shell.BASH, Shell.POWERSHELL]))
def test_words_in_variables_in_any_order_are_held(data: st.DataObject, shell: Shell) -> None:
    """Each word of the act in a variable of its own, cut anywhere, assigned in any order."""
    sign, glue, call = ("$", "=", "& ") if shell is Shell.POWERSHELL else ("", "=", "")
    given_: list[str] = []
    words: list[str] = []
    for i, word in enumerate(ACT):
        at = data.draw(st.integers(1, len(word)))
        parts = [part for part in (word[:at], word[at:]) if part]
        given_ += [f"{sign}v{i}x{j}{glue}'{part}'" for j, part in enumerate(parts)]
        words.append('"' + "".join(f"${{v{i}x{j}}}" for j in range(len(parts))) + '"')
    order = data.draw(st.permutations(given_))
    assert judge("; ".join([*order, call + " ".join(words)]), shell).decision is Decision.DENY


_STARTED = (
    "import subprocess; subprocess.run({words})",
    "import os; os.system({text})",
    "import subprocess as s; c = {words}; s.Popen(c)",
    "import subprocess as s; s.run({text}, shell=True)",
    "import subprocess as s; s.run({text}.split())",
    "from tools import anything; anything({text})",
    "import os; c = {text}; print(c); os.popen(c)",
)
_TOLD = (
    "print({text})",
    "import re; re.search({text}, open('a').read())",
    "import subprocess as s; out = s.check_output(['git', 'log'], text=True); assert {text} not in out",
    "import pathlib; p = pathlib.Path('a'); p.write_text(p.read_text().replace({text}, 'x'))",
    "import os; c = {text}; print(c)",
    "import json, os; json.dump({words}, open(os.devnull, 'w'))",
)


@settings(max_examples=200)
@given(st.data())
def test_python_that_starts_is_held_and_python_that_tells_goes_by(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line := " ".join(ACT))))
    text = data.draw(st.sampled_from([repr(line), f"({line[:at]!r} + {line[at:]!r})", f"'{line[:-1]}%d' % 5"]))
    filled = {"text": f"({text})", "words": repr(list(ACT))}
    started, told = data.draw(st.sampled_from(_STARTED)), data.draw(st.sampled_from(_TOLD))
    assert judge(f"python3 -c {shlex.quote(started.format(**filled))}").decision is Decision.DENY
    assert judge(f"python3 -c {shlex.quote(told.format(**filled))}").decision is Decision.ALLOW


# --- nothing breaks it --------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.text(), st.sampled_from(Shell))
def test_any_text_is_judged(text: str, shell: Shell) -> None:
    judge(text, shell)
    judge(f"vastai {text}", shell)
    judge_argv(tuple(text.split()))


@settings(max_examples=200)
@given(st.text())
def test_nothing_behind_a_destroy_takes_it_back(text: str) -> None:
    assert judge(f"vastai destroy instance 5; {text}").decision is Decision.DENY
    assert judge(f"vastai destroy instance 5\n{text}", Shell.POWERSHELL).decision is Decision.DENY


@pytest.mark.parametrize("shell", Shell)
@pytest.mark.parametrize("opening", ["$(", "(", "{ ", "`", '"$(', "if ", "sh -c '", "${x:-", "@(", "[", "a|"])
def test_deep_nesting_ends_in_a_decision(shell: Shell, opening: str) -> None:
    # Every second quote ends the one before: bash runs "sh -c sh".
    harmless = opening == "sh -c '" and shell is Shell.BASH
    decision = judge(opening * 3000 + "vastai destroy instance 5", shell).decision
    assert decision is (Decision.ALLOW if harmless else Decision.DENY)


def test_a_line_too_long_to_read_is_held_when_it_names_the_act() -> None:
    assert judge("echo " + "x" * (1 << 18) + "; vastai destroy instance 5").decision is Decision.DENY
    assert judge("echo " + "x" * (1 << 18)).decision is Decision.ALLOW


_FOLLOWED = {
    "itself, added": "x = 'vastai'\n" + "x = x + x\n" * 6 + "os.system(x)",
    "itself, as a path": "x = Path('vastai')\n" + "x = x / x\n" * 6 + "open(x)",
    "lists of lists": "v0 = ['vastai']\n" + "".join(f"v{i + 1} = [{f'*v{i}, ' * 9}]\n" for i in range(9)) + "run(v9)",
    "many ways to a mention": "v0 = 'vastai'\n"
    + "".join(f"v{i + 1} = v{i}.strip()\n" * 3 for i in range(14))
    + "print(v14)",
    "many uses of one name": "x = 'vastai'\n" + "".join(f"x = 't{i}'\nprint(x)\n" for i in range(3000)),
    "many calls": "x = 'vastai '\n" + "x += 'abc '\n" * 1500 + "os.system(x)\n" * 2000,
}


@pytest.mark.parametrize("act", ["", "\nos.system('vastai destroy instance 5')"], ids=["harmless", "the act"])
@pytest.mark.parametrize("kind", _FOLLOWED)
def test_python_that_leads_in_circles_ends_in_a_decision_soon(kind: str, act: str) -> None:
    line = f"python3 - <<'END'\nimport os\n{_FOLLOWED[kind]}{act}\nEND"
    began = time.process_time()
    decision = judge(line).decision
    assert time.process_time() - began < 10
    assert decision is (Decision.DENY if act else Decision.ALLOW)


@pytest.mark.parametrize(("shell", "between"), [(Shell.BASH, "; "), (Shell.POWERSHELL, "; "), (Shell.CMD, " & ")])
def test_a_line_of_many_commands_ends_in_a_decision_soon(shell: Shell, between: str) -> None:
    line = between.join([*(f"ls a{i}" for i in range(10_000)), "vastai destroy instance 5"])
    began = time.process_time()
    assert judge(line, shell).decision is Decision.DENY
    assert time.process_time() - began < 10
