"""SSH connections to the box: every route tried, the host key checked before anything is sent, tuned for big files.

Why the numbers: one SSH channel moves at most one window per round trip, and the usual 2 MiB
cap it at 17 MB/s at 100 ms; window and packet grow together, for a big window with 32 KiB
packets makes sshd 3-4 times slower. AES-128-GCM is the fastest cipher both ends have, and
paramiko would take it last. paramiko asks for new keys every 512 MiB, which can stall for 30 s
when a channel closes meanwhile (paramiko issue 822): that is left to the server, which knows
its cipher's limits.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import paramiko
from paramiko.ssh_exception import SSHException

from harness.core import environment
from harness.core.errors import HarnessError, HostKeyChanged, HostUnreachable
from harness.core.network import cause
from harness.core.ports import Clock, Endpoint
from harness.remote.ssh.keys import public_key
from harness.remote.ssh.own_keys import KeysRefused, OwnKeys, known_name, nobody
from harness.remote.ssh.pinning import HostKeys

WINDOW = 8 << 20
PACKET = 256 << 10
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
CONNECT_TIMEOUT_S = 15.0
KEEPALIVE_S = 15
ASK_AGAIN_S = 5.0
"""Seconds for which an answer about where the box is now stands before it is asked again."""

DEAD_AFTER_S = 45
"""Unacknowledged bytes for so long mean a dead connection, where the operating system can be told so."""

# paramiko logs tracebacks of dropped connections to stderr unless somebody listens; they are raised here as errors.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


CUT = (SSHException, OSError, EOFError)
"""What paramiko raises on a connection that ended, or that never was."""


@contextlib.contextmanager
def unreachable(said: str) -> Iterator[None]:
    """Raises HostUnreachable, with the cause behind what is ``said``, when the connection ends inside the block."""
    try:
        yield
    except CUT as error:
        raise HostUnreachable(f"{said}: {describe(error)}") from error


@dataclass(frozen=True, slots=True)
class Login:
    """Login to a box: the user, the routes to it, the private key, the host keys that are accepted.

    With ``own``, the keys of the person at the keyboard are offered first, and ``key_file`` need not exist;
    ``known_hosts`` says which of their host keys are accepted.
    """

    user: str
    endpoints: tuple[Endpoint, ...]
    key_file: Path
    host_keys: tuple[str, ...] = ()
    first_use_file: Path | None = None
    own: OwnKeys | None = None

    def pinning(self) -> HostKeys:
        """Host keys that this login accepts."""
        return HostKeys(self.host_keys, self.first_use_file)


class Connection:
    """One authenticated SSH connection."""

    def __init__(self, transport: paramiko.Transport, endpoint: Endpoint, host_key: str) -> None:
        self._transport = transport
        self._asking = threading.Lock()
        self.endpoint = endpoint
        self.host_key = host_key

    def alive(self) -> bool:
        """True unless the connection is known to be dead."""
        return self._transport.is_active()

    def session(self) -> paramiko.Channel:
        """Open a channel. Raises HostUnreachable; nothing was asked yet, so it is safe to try again elsewhere."""
        with unreachable(f"{name(self.endpoint)} opens no channel"):
            return self._transport.open_session(window_size=WINDOW, max_packet_size=PACKET, timeout=CONNECT_TIMEOUT_S)

    def stream_to(self, endpoint: Endpoint) -> paramiko.Channel:
        """A stream from there to another address; the connection lasts as long. Raises HostUnreachable."""
        there, here = (endpoint.host, endpoint.port), ("127.0.0.1", 0)
        with unreachable(f"{name(self.endpoint)} does not reach {name(endpoint)}"):
            stream = self._transport.open_channel("direct-tcpip", there, here, timeout=CONNECT_TIMEOUT_S)
        end = stream.close

        def close() -> None:
            end()
            self.close()

        stream.close = close  # type: ignore[method-assign]  # nobody else has the jump host's connection
        return stream

    def start(self, channel: paramiko.Channel, command: str, timeout: float) -> None:
        """Start a command in the box's login shell. Raises HostUnreachable; it may have run nevertheless."""
        with unreachable(f"{name(self.endpoint)} does not start commands"):
            channel.settimeout(timeout)
            with self.ended_after(timeout):
                channel.exec_command(command)

    def round_trip(self, clock: Clock) -> float:
        """Round trip to the box itself, seconds, also behind a proxy. Raises HostUnreachable.

        A global request is one packet each way: of a channel's packets the server holds some back for 40 ms.
        """
        with self._asking, unreachable(f"{name(self.endpoint)} does not answer"):
            started = clock.monotonic()
            with self.ended_after(CONNECT_TIMEOUT_S):
                self._transport.global_request("keepalive@openssh.com")
            passed = clock.monotonic() - started
        if not self.alive():
            raise HostUnreachable(f"{name(self.endpoint)} does not answer")
        return passed

    @contextlib.contextmanager
    def ended_after(self, seconds: float) -> Iterator[None]:
        """End the connection when the block takes longer: paramiko waits for ever for the answer to a request."""
        late = threading.Timer(seconds, self.close)
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()

    def close(self) -> None:
        """End the connection and everything running over it."""
        self._transport.close()


class Dialer:
    """Makes connections for one login; begins with the route that answered last, and asks where the box is now.

    ``whereabouts`` is called when every known route failed: a restarted box has other ports.
    """

    def __init__(self, login: Login, clock: Clock, whereabouts: Callable[[], Login] | None = None) -> None:
        self._login = login
        self._clock = clock
        self._whereabouts = whereabouts
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._asked_at: float | None = None

    def connect(self) -> Connection:
        """A new connection over the first route that answers. Raises HostKeyChanged, HostUnreachable."""
        tried = self._login
        try:
            return self._try_routes(tried)
        except HostUnreachable:
            login = self._relocated(tried)
            if login is None:
                raise
        return self._try_routes(login)

    def _relocated(self, tried: Login) -> Login | None:
        """Login with the routes of now, None when they are those that were tried; asked by one thread at a time."""
        if self._whereabouts is None:
            return None
        with self._asking:
            now = self._clock.monotonic()
            if _same_routes(self._login, tried) and (self._asked_at is None or now - self._asked_at >= ASK_AGAIN_S):
                self._asked_at = now
                try:
                    login = self._whereabouts()
                except HarnessError:  # who cannot be asked says nothing; the box stays unreachable, and why is known
                    return None
                with self._lock:
                    self._login = self._login if _same_routes(login, self._login) else login
            return None if _same_routes(self._login, tried) else self._login

    def connect_patiently(self, patience: float, give_up: Callable[[], bool] = lambda: False) -> Connection:
        """Connect, with retries and growing pauses for ``patience`` seconds or until ``give_up`` says so.

        Raises HostUnreachable, and at once HostKeyChanged: waiting does not make a stranger a friend.
        """
        deadline = self._clock.monotonic() + patience
        pause = 0.25
        while True:
            try:
                return self.connect()
            except HostKeyChanged:
                raise
            except HostUnreachable:
                if self._clock.monotonic() + pause > deadline or give_up():
                    raise
            self._clock.sleep(pause)
            pause = min(pause * 2, 15.0)

    def _try_routes(self, login: Login) -> Connection:
        if not login.endpoints:
            raise HostUnreachable("the provider names no SSH address for the box")
        problems: list[HostUnreachable] = []
        for endpoint in login.endpoints:
            try:
                connection = connect(login, endpoint)
            except HostUnreachable as error:
                problems.append(error)
                continue
            others = tuple(other for other in login.endpoints if other != endpoint)
            with self._lock:
                if self._login is login:
                    self._login = replace(login, endpoints=(endpoint, *others))
            return connection
        for problem in problems:
            if isinstance(problem, HostKeyChanged):
                raise problem
        raise HostUnreachable("; ".join(str(error) for error in problems)) from problems[0]


def connect(login: Login, endpoint: Endpoint) -> Connection:
    """One connection to one endpoint. Raises HostKeyChanged, HostUnreachable, BadInput (the key file)."""
    if login.own is None:
        public_key(login.key_file)  # a clear error for an unusable key, before the network is touched
        key = paramiko.PKey.from_path(login.key_file)
        return _connect(login, endpoint, lambda transport: transport.auth_publickey(login.user, key))
    refused = 0
    with login.own.offers(endpoint.host, login.key_file) as (offers, unusable):
        while rest := offers[refused:]:
            try:
                return _connect(login, endpoint, partial(login.own.log_in, user=login.user, offers=rest))
            except KeysRefused as error:
                refused += error.count
        raise nobody(login.user, name(endpoint), offers, unusable)


def _connect(login: Login, endpoint: Endpoint, log_in: Callable[[paramiko.Transport], object]) -> Connection:
    """One connection that ``log_in`` has authenticated."""
    connected = _reach(endpoint, tuple(hop for hop in endpoint.jump.split(",") if hop and hop != "none"))
    transport = paramiko.Transport(connected, default_window_size=WINDOW, default_max_packet_size=PACKET)
    try:
        with unreachable(f"{name(endpoint)} does not let us in"):
            host_key = _handshake(transport, login, endpoint, log_in)
    except BaseException:
        transport.close()
        raise
    return Connection(transport, endpoint, host_key)


def _reach(endpoint: Endpoint, hops: tuple[str, ...]) -> socket.socket | paramiko.Channel:
    """A stream to an endpoint: straight, or through the last of its jump hosts. Raises HostUnreachable."""
    if hops:
        return _through(endpoint, hops[-1], ",".join(hops[:-1]))
    try:
        connected = socket.create_connection((endpoint.host, endpoint.port), CONNECT_TIMEOUT_S)
    except OSError as error:
        raise HostUnreachable(f"{name(endpoint)} does not answer: {cause(error)}") from error
    _notice_dead_peers(connected)
    return connected


def _through(endpoint: Endpoint, hop: str, before: str) -> paramiko.Channel:
    """A stream through a jump host, where the operator's own keys and ``known_hosts`` are good."""
    user, _, host = hop.removeprefix("ssh://").rpartition("@")
    alias, _, port = host.rpartition(":") if host.count(":") == 1 else (host, "", "")
    own = OwnKeys(environment.user_home() / ".ssh", alias=alias)
    told = own.settings(alias)
    at = Endpoint(
        str(told.get("hostname", alias)),
        int(port or told.get("port", 22)),
        user=user or told.get("user") or getpass.getuser(),
        jump=before or str(told.get("proxyjump", "")),
    )
    known = own.known([at])
    if not known:
        raise HostUnreachable(
            f"the host key of the jump host {name(at)} is not in known_hosts",
            remedy=f"Log in to it once by hand and look at its key: ssh {hop}",
        )
    jump = connect(Login(at.user, (at,), own.folder / "none", known, own=own), at)
    try:
        return jump.stream_to(endpoint)
    except BaseException:
        jump.close()
        raise


def _handshake(
    transport: paramiko.Transport, login: Login, endpoint: Endpoint, log_in: Callable[[paramiko.Transport], object]
) -> str:
    """Handshake, host key, authentication, in this order; the host key's line."""
    pinning = login.pinning()
    options = transport.get_security_options()
    options.ciphers = CIPHERS
    # A box has several host keys; it shows the kind that we prefer, so the pinned kinds come first.
    kinds = {pin.split()[0] for pin in pinning.known()}
    options.key_types = tuple(sorted(options.key_types, key=lambda kind: _key_kind(kind) not in kinds))
    transport.packetizer.REKEY_BYTES = 1 << 60
    transport.packetizer.REKEY_PACKETS = 1 << 60
    transport.banner_timeout = CONNECT_TIMEOUT_S
    transport.auth_timeout = CONNECT_TIMEOUT_S
    transport.start_client(timeout=CONNECT_TIMEOUT_S)
    key = transport.get_remote_server_key()
    host_key = f"{key.get_name()} {key.get_base64()}"
    try:
        pinning.require(host_key, name(endpoint))
    except HostKeyChanged as error:
        if login.own is not None and set(login.own.known([endpoint])) & set(login.host_keys):
            forget = f"ssh-keygen -R '{known_name(endpoint)}'"
            remedy = f"It may be somebody else's machine. When you know that the address is your box's now: {forget}"
            raise HostKeyChanged(f"{error} (known_hosts)", remedy=remedy) from error
        raise
    log_in(transport)
    transport.set_keepalive(KEEPALIVE_S)
    return host_key


def _key_kind(algorithm: str) -> str:
    """The key type that a signature algorithm uses: RSA keys sign with several."""
    return "ssh-rsa" if algorithm.startswith("rsa-") else algorithm


def _notice_dead_peers(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_S * 1000)


def describe(error: BaseException) -> str:
    """Short text for an error of the network, also for those that carry none."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _same_routes(one: Login, other: Login) -> bool:
    """True when two logins differ in the order of their routes at most."""
    return set(one.endpoints) == set(other.endpoints) and set(one.host_keys) == set(other.host_keys)


def name(endpoint: Endpoint) -> str:
    """Endpoint as people read it."""
    return f"{endpoint.host}:{endpoint.port} ({endpoint.route})"
