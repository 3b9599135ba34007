"""A machine of one's own: stock OpenSSH on a loopback port, and the operator's ``~/.ssh`` that knows it as ``box``."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.local_sshd import LocalSshd
from harness.remote.ssh.keys import public_key

NVIDIA_SMI = """#!/bin/sh
case "$*" in *--query-gpu*) for n in {indexes}; do echo "$n, {name}, 570.86.15, 81559, 100, 50, 9.0"; done;; esac
"""
"""Stands for the driver's program on a machine that has no GPU."""


def ssh_config(box: LocalSshd, alias: str = "box", more: str = "") -> str:
    """The block of ``~/.ssh/config`` for a box."""
    return (
        f"Host {alias}\n  HostName 127.0.0.1\n  Port {box.port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {box.client_key}\n  IdentitiesOnly yes\n{more}"
    )


def known_hosts(box: LocalSshd) -> str:
    """The line of ``known_hosts`` for a box."""
    return f"[127.0.0.1]:{box.port} {public_key(box.host_key)}\n"


def operator(home: Path, *boxes: tuple[LocalSshd, str, str], known: bool = True) -> Path:
    """A home whose ``~/.ssh`` knows boxes by their aliases."""
    folder = home / ".ssh"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "config").write_text("".join(ssh_config(*box) for box in boxes))
    (folder / "known_hosts").write_text("".join(known_hosts(box) for box, _, _ in boxes) if known else "")
    return home


@contextmanager
def own_box(folder: Path, *, gpus: int = 0, name: str = "NVIDIA H100 80GB HBM3") -> Iterator[LocalSshd]:
    """A box that serves, with so many GPUs as far as nvidia-smi tells; HOME is its operator's meanwhile."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    if gpus:
        smi = tools / "nvidia-smi"
        smi.write_text(NVIDIA_SMI.format(indexes=" ".join(map(str, range(gpus))), name=name))
        smi.chmod(0o755)
    box = LocalSshd(folder / "box", {"PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(operator(folder / "operator", (box, "box", ""))))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        box.start()
        try:
            yield box
        finally:
            box.stop()
