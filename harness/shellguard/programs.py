"""Programs that the command guard knows: those that run their arguments, and those that never do. Pure."""

from __future__ import annotations

import re

from harness.shellguard.reading import PRINTERS, ProgramCall, names, program

DETACHED = names("tmux screen systemd-run start start-process saps at batch daemonize")
"""Programs that return before what they started has ended."""

OPEN_ENDED = names("xargs parallel")
"""Programs that add words from their input to the command they are given."""

CARRIERS = (
    DETACHED
    | OPEN_ENDED
    | names(
        """
        sudo doas su env nohup setsid time nice ionice stdbuf timeout command builtin exec eval watch flock script
        unbuffer caffeinate chroot strace uvx pipx uv poetry conda wsl winpty find foreach-object % invoke-command
        start-job coproc trap expect docker podman kubectl parallel-ssh pssh pdsh mosh autossh sshpass entr ts
        make gmake just npx npm pnpm yarn bunx nix-shell call schtasks
        """
    )
)
"""Programs that are known to run their arguments, or a line in one of them."""

CODE = "(expression)"
"""Name of the call that a reader makes of expressions which are no call of a program."""

INTERPRETERS = names("perl ruby node nodejs deno bun php lua awk gawk mawk nawk osascript rscript julia") | {CODE}
"""Programs that run code in a language which the command guard does not parse."""

INERT = PRINTERS | names(
    """
    grep egrep fgrep rg ag git gh glab cat tac less more head tail ls ll man which where whereis type hash
    help test [ true false cd pushd mkdir touch wc sort uniq cut tr diff cmp jq yq basename dirname realpath readlink
    stat file tee sha256sum md5sum sed pip pip3 apt apt-get brew npm ruff mypy pytest tox nox black code vim vi nano
    emacs open ssh-keygen ssh-add ssh-keyscan ssh-copy-id export declare local readonly typeset unset set ps
    pgrep kill pkill killall dpkg get-content select-string get-command set-content chmod
    add-content get-childitem dir test-path get-help set-location out-file findstr claude wait read return exit
    logger mail mailx sendmail notify-send wall say journalctl pbcopy xclip clip set-clipboard rem : :: title msg
    display-message
    """
)
"""Programs that never run their arguments, but print, send, search or keep them: they may name a guarded act freely."""

_EXCEPT: dict[str, frozenset[str]] = {
    "git": names("bisect rebase submodule config -c filter-branch"),
    "npm": names("exec run x"),
}

_WRAPPERS: dict[str, tuple[str, str, int]] = {
    # program: letters of the options with a value, long options with a value, operands before the command
    "sudo": ("CDghpRrTtUu", "user group host prompt chdir chroot role type other-user close-from command-timeout", 0),
    "doas": ("Cu", "", 0),
    "env": ("uC", "unset chdir", 0),
    "nice": ("n", "adjustment", 0),
    "ionice": ("cnpPu", "class classdata", 0),
    "timeout": ("ks", "kill-after signal", 1),
    "stdbuf": ("ioe", "input output error", 0),
    "time": ("fo", "format output", 0),
    "xargs": ("adEILnPs", "arg-file delimiter replace max-lines max-args max-procs max-chars", 0),
    "chroot": ("", "userspec groups", 1),
    "taskset": ("", "", 1),
    "caffeinate": ("tw", "", 0),
    "exec": ("a", "", 0),
    **dict.fromkeys(("nohup", "setsid", "command", "builtin", "winpty", "unbuffer"), ("", "", 0)),
}
"""Programs that run the command behind their own options; sudo(8), env(1), nice(1), timeout(1), xargs(1) and others."""

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_FLAG = re.compile(r"-[A-Za-z0-9]+")
_RUN_BY_NAME = re.compile(r"\w*(PAGER|EDITOR|COMMAND|CMD|BROWSER|LESSOPEN|ASKPASS|SHELL|VISUAL)=.*", re.DOTALL)


def inert(call: ProgramCall) -> bool:
    """True for a call that can start nothing of what its words say."""
    name = program(call.words[0])
    rest = call.words[1:]
    return name in INERT and not _EXCEPT.get(name, frozenset()) & set(rest) and not any(w.startswith("!") for w in rest)


def run_by_name(env: tuple[str, ...]) -> tuple[str, ...]:
    """Values of the assignments whose variable names a program that others start: PAGER, GIT_EDITOR and their kind."""
    return tuple(word.split("=", 1)[1] for word in env if _RUN_BY_NAME.fullmatch(word))


def wrapped(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """The command that a program of the table starts, read by its own options; None when that is not certain."""
    row = _WRAPPERS.get(program(words[0]))
    if row is None:
        return None
    letters, longs, operands = row
    if program(words[0]) == "env":
        words = _split(words)
    i = 1
    while i < len(words) and words[i] != "--" and (words[i].startswith("-") or _ASSIGNMENT.fullmatch(words[i])):
        width = _width(words[i], letters, longs.split())
        if not width:
            return None
        i += width
    return words[i + (words[i : i + 1] == ("--",)) + operands :]


def _width(option: str, letters: str, longs: list[str]) -> int:
    """How many words an option takes; 0 when that is not known. An assignment takes one."""
    if not option.startswith("-"):
        return 1
    if option.startswith("--"):
        return 1 if "=" in option else 2 * (option[2:] in longs)
    valued = next((at for at, letter in enumerate(option) if at and letter in letters), None)
    if valued is None:
        return int(_FLAG.fullmatch(option) is not None)
    return 2 if valued == len(option) - 1 else 1


def _split(words: tuple[str, ...]) -> tuple[str, ...]:
    """The words with what ``env -S`` splits."""
    for i, word in enumerate(words):
        for option in ("-S", "--split-string=", "--split-string"):
            if word.startswith(option):
                rest = words[i + 1 :]
                text, rest = (word[len(option) :], rest) if len(word) > len(option) else ("".join(rest[:1]), rest[1:])
                return (*words[:i], *text.split(), *rest)
    return words
