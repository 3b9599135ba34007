"""A terminal over stock ssh is a terminal: full-screen programs draw on it and take what is typed."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.emulator_kit import Box, rented

WAIT_S = 30.0

needs_tmux = pytest.mark.skipif(not shutil.which("tmux"), reason="no tmux on this machine")


@dataclass(slots=True)
class Screen:
    """A terminal with stock ssh in it: everything that was drawn so far, and a keyboard."""

    descriptor: int
    drawn: str = ""

    def wait(self, pattern: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not re.search(pattern, self.drawn):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was not drawn: {self.drawn[-2000:]!r}"
            if select.select([self.descriptor], [], [], left)[0]:
                try:
                    self.drawn += os.read(self.descriptor, 65536).decode("utf-8", "replace")
                except OSError:  # the other side closed it
                    assert re.search(pattern, self.drawn), f"closed: {self.drawn[-2000:]!r}"

    def type(self, keys: str) -> None:
        self.drawn = ""
        os.write(self.descriptor, keys.encode())


@contextmanager
def screen(box: Box, *command: str) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    line = ["ssh", "-t", "-p", box.port(), *box.options(), "root@127.0.0.1", *command]
    env = {"PATH": os.environ["PATH"], "HOME": str(box.key.parent), "TERM": "xterm"}
    with subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True) as ssh:
        os.close(theirs)
        try:
            yield Screen(ours)
        finally:
            ssh.kill()
            os.close(ours)


@pytest.fixture(params=["auto", "none"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Box]:
    with rented(tmp_path, isolation=request.param) as found:
        yield found


@needs_tmux
def test_tmux_draws_takes_input_and_is_left_and_found_again(box: Box) -> None:
    with screen(box, "tmux", "new", "-s", "train") as one:
        one.wait(r"\[train\]")
        one.type("echo $((6*7))-typed > workspace/note; cat workspace/note\r")
        one.wait("42-typed")
        one.type("\x02d")
        one.wait("detached")
    assert b"train" in box.ssh("tmux ls").stdout
    assert box.ssh("cat workspace/note").stdout == b"42-typed\n"
    with screen(box, "tmux", "attach", "-t", "train") as again:
        again.wait("42-typed")
    assert box.ssh("tmux kill-server").returncode == 0


@needs_tmux
def test_a_login_lands_in_tmux(box: Box) -> None:
    with screen(box) as login:
        login.wait("ssh_tmux")
        login.type("echo in-$TERM\r")
        login.wait("in-(tmux|screen)")
    assert box.ssh("tmux kill-server").returncode == 0


def test_the_input_of_a_program_is_its_terminal_in_both_directions(box: Box) -> None:
    with screen(box, 'printf "drawn on input\\n" >&0; read answer </dev/tty; echo "got $answer"') as one:
        one.wait("drawn on input")
        one.type("this\r")
        one.wait("got this")
