from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import BadInput
from harness.providers.addresses import is_private
from harness.providers.vast.credentials import DEFAULT_SERVER, Credentials, resolve


def write_key(path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(key + "\n", encoding="utf-8")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client leaves its key file open
@pytest.mark.parametrize("places", range(1, 16))
def test_the_key_is_found_where_the_official_client_finds_it(
    places: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vastai._base import _APIKEY_SENTINEL, _resolve_api_key

    environ = {"HOME": str(tmp_path)}
    if places & 1:
        environ["VAST_API_KEY"] = "from-environment"
    if places & 2:
        environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
        write_key(tmp_path / "xdg" / "vastai" / "vast_api_key", "from-xdg")
    if places & 4:
        write_key(tmp_path / ".config" / "vastai" / "vast_api_key", "from-config")
    if places & 8:
        write_key(tmp_path / ".vast_api_key", "from-legacy")
    for name in ("VAST_API_KEY", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert resolve(environ, tmp_path).api_key == _resolve_api_key(_APIKEY_SENTINEL)
    assert resolve(environ, tmp_path, api_key="argument").api_key == "argument"


@pytest.mark.parametrize(
    ("environment", "first", "second", "told"),
    [
        ("k", "", "", "VAST_API_KEY"),
        ("k", "k", "", "VAST_API_KEY"),
        ("k", "other", "", "VAST_API_KEY; another key lies in {first}"),
        ("k", "other", "more", "VAST_API_KEY; another key lies in {first} and in {second}"),
        ("", "k", "other", "{first}; another key lies in {second}"),
        ("", "k", "k", "{first}"),
        ("", "", "k", "{second}"),
    ],
)
def test_where_the_key_is_from_and_where_another_lies_is_said(
    environment: str, first: str, second: str, told: str, tmp_path: Path
) -> None:
    places = tmp_path / ".config" / "vastai" / "vast_api_key", tmp_path / ".vast_api_key"
    for place, key in zip(places, (first, second), strict=True):
        if key:
            write_key(place, key)
    found = resolve({"VAST_API_KEY": environment}, tmp_path)
    assert found.api_key == "k"
    assert found.source == told.format(first=places[0], second=places[1])
    assert "other" not in found.source.replace("another", "")


def test_no_key_anywhere_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="API key was found") as caught:
        resolve({}, tmp_path)
    assert "VAST_API_KEY" in caught.value.remedy


def test_an_empty_key_file_is_no_key(tmp_path: Path) -> None:
    write_key(tmp_path / ".vast_api_key", "")
    with pytest.raises(BadInput, match="API key was found"):
        resolve({}, tmp_path)


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".vast_api_key").mkdir()
    with pytest.raises(BadInput, match=r"cannot read the API key file .*\.vast_api_key"):
        resolve({}, tmp_path)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "tab\there", "ключ", "nul\0byte"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(key: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        resolve({"VAST_API_KEY": key}, tmp_path)
    assert key not in str(caught.value)
    assert key not in caught.value.remedy


def test_the_key_is_not_printed() -> None:
    assert "sesame" not in repr(Credentials(DEFAULT_SERVER, "sesame"))


def test_the_address_is_given_or_of_the_environment_or_the_real_one(tmp_path: Path) -> None:
    environ = {"VAST_API_KEY": "k", "VAST_URL": "http://127.0.0.1:8000/"}
    assert resolve({"VAST_API_KEY": "k"}, tmp_path).server_url == "https://console.vast.ai"
    assert resolve(environ, tmp_path).server_url == "http://127.0.0.1:8000"
    assert resolve(environ, tmp_path, server_url="https://vast.example").server_url == "https://vast.example"


@pytest.mark.parametrize(
    "url",
    [
        "http://vast.example",
        "ftp://vast.example",
        "https://user:secret@vast.example",
        "https://",
        "vast.example",
        "https://vast.example:port",
        "https://[::1",
        "https://vast.example/?api_key=1",
    ],
)
def test_a_key_is_not_sent_to_an_address_like_this(url: str) -> None:
    with pytest.raises(BadInput):
        Credentials(url, "k")


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://s3.amazonaws.com/log?x=1", True),
        ("http://127.0.0.1:5/x", True),
        ("http://[::1]:5/x", True),
        ("http://localhost/x", True),
        ("http://s3.amazonaws.com/log", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_private_means_tls_or_this_machine(url: str, private: bool) -> None:
    assert is_private(url) is private
