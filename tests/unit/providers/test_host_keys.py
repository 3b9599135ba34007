"""Host keys in a container's log, whatever else stands in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.providers.host_keys import read

_BLOCK = "-----BEGIN SSH HOST KEY KEYS-----\n{}\n-----END SSH HOST KEY KEYS-----\n"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
_OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNo"


@pytest.mark.parametrize(
    ("log", "keys"),
    [
        ("", ()),
        (_BLOCK.format(_KEY), (_KEY,)),
        (_BLOCK.format(_KEY) + _BLOCK.format(_KEY + "Forged"), (_KEY,)),
        (_BLOCK.format(f"{_KEY} root@box\r"), (_KEY,)),
        (_BLOCK.format(f"{_KEY}\n{_KEY}"), (_KEY,)),
        (
            _BLOCK.format(f"{_KEY}\necdsa-sha2-nistp256 AAAAE2VjZHNhLXNo x"),
            (_KEY, "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNo"),
        ),
        (f"+ echo '-----BEGIN SSH HOST KEY KEYS-----'\n{_BLOCK.format(_KEY)}", (_KEY,)),
        (_BLOCK.format("rm -rf / # ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"), ()),
        (_BLOCK.format("ssh-ed25519 \x1b[2J"), ()),
        (_BLOCK.format("ssh-ed25519 " + "A" * 5000), ()),
        (f"-----BEGIN SSH HOST KEY KEYS-----\n{_KEY}\n", ()),
        (
            _BLOCK.format("\n".join(f"{_KEY}{number:04}" for number in range(50))),
            tuple(f"{_KEY}{n:04}" for n in range(8)),
        ),
    ],
)
def test_host_keys_in_a_log(log: str, keys: tuple[str, ...]) -> None:
    assert read(log) == keys


@given(st.text(max_size=500))
def test_no_log_is_an_error(log: str) -> None:
    assert all(len(key.split(" ")) == 2 for key in read(_BLOCK.format(log)))


def test_the_newest_block_tells_of_the_newest_start() -> None:
    log = _BLOCK.format(_KEY) + _BLOCK.format(_OTHER)
    assert (read(log), read(log, newest=True)) == ((_KEY,), (_OTHER,))
