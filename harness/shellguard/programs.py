"""Programs that the command guard knows: those that run their arguments, and those that never do. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.shellguard.reading import ProgramCall, names, program

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
        start-job coproc trap expect docker podman parallel-ssh pssh pdsh mosh autossh sshpass entr ts
        perl ruby node nodejs deno bun php lua awk gawk
        """
    )
)
"""Programs that are known to run their arguments, or a line in one of them."""

INERT = names(
    """
    echo printf grep egrep fgrep rg ag git gh glab cat tac less more head tail ls ll man which where whereis type hash
    help test [ true false cd pushd mkdir touch wc sort uniq cut tr diff cmp jq yq basename dirname realpath readlink
    stat file tee sha256sum md5sum sed pip pip3 apt apt-get brew npm ruff mypy pytest tox nox black code vim vi nano
    emacs open ssh-keygen ssh-add ssh-keyscan ssh-copy-id export declare local readonly typeset unset set ps
    pgrep kill pkill killall dpkg write-output write-host get-content select-string get-command set-content
    add-content get-childitem dir test-path get-help set-location out-file findstr claude wait read return exit
    """
)
"""Programs that never run their arguments: they may name a guarded act freely."""

_PREFIXES = names("sudo doas env nohup time nice command xargs")
_BEFORE_PROGRAM = re.compile(r"-.*|\d+|\{\}|[A-Za-z_]\w*=.*")

_EXCEPT: dict[str, frozenset[str]] = {"git": names("bisect rebase submodule config"), "npm": names("exec run x")}


def inert(call: ProgramCall) -> bool:
    """True for a call that can start nothing of what its words say."""
    name = program(call.words[0])
    rest = call.words[1:]
    return name in INERT and not _EXCEPT.get(name, frozenset()) & set(rest) and not any(w.startswith("!") for w in rest)


def before_inert(words: tuple[str, ...], known: Callable[[str], bool]) -> tuple[str, ...]:
    """A prefix command's words up to the inert program that it starts, if it starts one: ``xargs grep 'text'``.

    ``known`` says whether a name is a program that the command guard looks at; with one of those behind it, the
    inert word may be no program at all (``sudo -u test sh``), and all words stay.
    """
    if program(words[0]) not in _PREFIXES:
        return words
    at = next((i for i, word in enumerate(words) if i and not _BEFORE_PROGRAM.fullmatch(word)), 0)
    if not at or program(words[at]) not in INERT or any(known(program(word)) for word in words[at:]):
        return words
    return words[:at]
