"""A file as big as a real model, once: whole, and in little memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(SSHD is None, reason="sshd is not installed"),
]

GIB = 1 << 30
SIZE = 5 * GIB + 12_345
MEMORY_LIMIT = 150 << 20

CLIENT = """
import sys
from pathlib import Path
from harness.core.clock import SystemClock
from harness.core.ports import Endpoint, RemoteFile
from harness.remote.host import SshHost
from harness.remote.ssh.connection import Login
from tests.support.memory import peak_memory
user, port, key, pin, size, digest, target = sys.argv[1:]
login = Login(user, (Endpoint("127.0.0.1", int(port)),), Path(key), (pin,))
host = SshHost(login, SystemClock())
host.fetch(RemoteFile("model.gguf", int(size), digest), Path(target))
host.close()
print(peak_memory())
"""


def test_more_than_five_gigabytes_arrive_in_little_memory(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 3 * SIZE:
        pytest.skip("not enough room")
    box = LocalSshd(tmp_path / "box")
    box.start()
    try:
        block = os.urandom(1 << 20)
        digest = hashlib.sha256()
        with (box.home / "model.gguf").open("wb") as file:
            for index in range(0, SIZE, 1 << 20):
                data = (index.to_bytes(8, "little") + block[8:])[: SIZE - index]
                digest.update(data)
                file.write(data)
        login = box.login()
        where = [login.user, str(box.port), str(login.key_file), *login.host_keys]
        target = tmp_path / "home" / "model.gguf"
        ran = subprocess.run(
            [sys.executable, "-c", CLIENT, *where, str(SIZE), digest.hexdigest(), str(target)],
            check=True,
            capture_output=True,
            text=True,
        )
        with target.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == digest.hexdigest()
        peak = int(ran.stdout)
        assert peak < MEMORY_LIMIT, f"{peak} bytes"
    finally:
        box.stop()
        shutil.rmtree(tmp_path)
