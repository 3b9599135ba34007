"""The address of RunPod's API and the key that opens it, and the client that sends one request at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import __version__
from harness.core.errors import MissingExtra, NoKey
from harness.providers.addresses import require_key, require_url

DEFAULT_SERVER = "https://api.runpod.io"
VARIABLE = "RUNPOD_API_KEY"
KEY_REMEDY = f"Get a key at https://console.runpod.io/user/settings and set {VARIABLE}."
_SERVICE = "RunPod"


@dataclass(frozen=True, slots=True)
class RunPodAccess:
    """An address and the key that opens it; the key is not shown when this is printed."""

    server_url: str
    api_key: str = field(repr=False)
    source: str = VARIABLE

    def __post_init__(self) -> None:
        require_url(self.server_url, _SERVICE)
        require_key(self.api_key, _SERVICE, KEY_REMEDY)

    @property
    def key_check(self) -> str:
        """The official command that shows whose key it is."""
        return "runpodctl user"

    def client(self) -> PlainClient:
        """A client of its own, as no official one speaks this API from Python."""
        return PlainClient(self)


class PlainClient:
    """One request a call, the key in its header; a redirect, which would carry the key elsewhere, is an answer."""

    def __init__(self, access: RunPodAccess) -> None:
        try:
            import requests  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtra("the RunPod provider", "runpod") from error
        self._url = access.server_url
        self._session = requests.Session()
        self._session.headers.update(
            {"Authorization": f"Bearer {access.api_key}", "User-Agent": f"gold-standard-harness/{__version__}"}
        )

    def get(self, path: str, *, query_args: Mapping[str, Any], json_data: Any, timeout: Any) -> Any:
        """GET."""
        del json_data
        return self._session.get(self._url + path, params=query_args, timeout=timeout, allow_redirects=False)

    def post(self, path: str, *, query_args: Mapping[str, Any], json_data: Any, timeout: Any) -> Any:
        """POST."""
        return self._session.post(
            self._url + path, params=query_args, json=json_data, timeout=timeout, allow_redirects=False
        )

    def delete(self, path: str, *, query_args: Mapping[str, Any], json_data: Any, timeout: Any) -> Any:
        """DELETE, without a body."""
        del json_data
        return self._session.delete(self._url + path, params=query_args, timeout=timeout, allow_redirects=False)

    def stream(self, path: str, *, query_args: Mapping[str, Any], timeout: Any) -> Any:
        """GET whose body is read as it comes."""
        return self._session.get(
            self._url + path, params=query_args, timeout=timeout, allow_redirects=False, stream=True
        )


def resolve(environ: Mapping[str, str], server_url: str | None = None) -> RunPodAccess:
    """The key of RUNPOD_API_KEY, for the given server or RunPod's own.

    Raises NoKey when there is none, BadInput for a text that can be none.
    """
    key = environ.get(VARIABLE)
    if not key:
        raise NoKey("no RunPod API key was found", remedy=KEY_REMEDY)
    return RunPodAccess((server_url or DEFAULT_SERVER).rstrip("/"), key.strip())
