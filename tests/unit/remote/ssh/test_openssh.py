"""The command line of the system's ssh, as that client itself understands it (``ssh -G``)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.core.ports import Endpoint
from harness.remote.ssh import openssh

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBoxKeyBoxKeyBoxKeyBoxKeyBoxKey"


def _line(folder: Path, *words: str, terminal: bool = False) -> tuple[str, ...]:
    return openssh.command(
        "ssh",
        Endpoint("192.0.2.1", 40022),
        user="root",
        key=folder / "id_ed25519",
        hosts=folder / "known_hosts",
        alias="harness-instance-7",
        words=words,
        terminal=terminal,
    )


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh client on this machine")
@pytest.mark.parametrize("name", ["plain", "with a blank", "100% sure", "ünicode", "it's"])
def test_the_client_reads_it_as_it_is_meant(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "id_ed25519").touch()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        "Host *\n  ForwardAgent yes\n  ProxyCommand nc evil 22\n  ControlMaster auto\n"
    )
    program, *rest = _line(folder)
    told = subprocess.run([program, "-G", *rest], capture_output=True, text=True, check=True, timeout=30).stdout
    settings = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    assert (settings["hostname"], settings["port"], settings["user"]) == ("192.0.2.1", "40022", "root")
    assert settings["stricthostkeychecking"] == "true"
    assert settings["hostkeyalias"] == "harness-instance-7"
    assert settings["forwardagent"] == "no"
    assert settings["controlmaster"] == "false"
    assert "proxycommand" not in settings
    assert settings["identityfile"].replace("%%", "%") == str(folder / "id_ed25519")
    assert settings["userknownhostsfile"].replace("%%", "%").strip('"') == str(folder / "known_hosts")


def test_words_go_behind_the_host_and_a_terminal_only_where_it_is_wanted(tmp_path: Path) -> None:
    assert _line(tmp_path, "ls", "-la")[-3:] == ("192.0.2.1", "ls", "-la")
    assert "-t" not in _line(tmp_path, "ls")
    assert "-t" in _line(tmp_path, "htop", terminal=True)


def test_the_known_hosts_accept_the_pinned_keys_for_one_name() -> None:
    assert openssh.known_hosts("harness-instance-7", (KEY, KEY.replace("Box", "Box2"))).splitlines() == [
        f"harness-instance-7 {KEY}",
        f"harness-instance-7 {KEY.replace('Box', 'Box2')}",
    ]
