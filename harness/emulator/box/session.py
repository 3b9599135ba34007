"""One command or login over SSH: the process, its pipes or terminal, and the pumps between.

The pumps are our own: they lose no byte of a large output, stop reading when the
client does not keep up, and let go of the process when the client is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncssh

from harness.emulator.box.container import BoxFailed, Container
from harness.emulator.box.throttle import Cut, Throttle

Channel = asyncssh.SSHServerProcess[bytes]
Child = asyncio.subprocess.Process

READ = 1 << 20
"""Bytes read from a pipe at once; a pipe's buffer is widened to as much where the kernel lets us."""

TERMINAL_LINGER_S = 0.2
"""How long a terminal's last output is waited for when its process has ended but others still hold it open."""

_LOGIN_IN_TMUX = (
    'if [ -t 0 ] && [ -z "$TMUX" ] && [ ! -e "$HOME/.no_auto_tmux" ] && command -v tmux >/dev/null; '
    'then exec tmux new-session -A -s ssh_tmux; else exec "$SHELL" -l; fi'
)


COPIER = "vastai_kaalia"
"""The host's own user, as whom the official client's ``copy`` logs in to speak to an rsync daemon."""


@dataclass(frozen=True, slots=True)
class Session:
    """Serves one channel of a logged-in client. ``received`` is told of bytes that went to the box."""

    container: Container
    throttle: Callable[[], Throttle]
    received: Callable[[int], None]

    async def __call__(self, process: Channel) -> None:
        """Run it to its end; never raises."""
        try:
            command = process.command
            if process.get_extra_info("username") == COPIER:
                await self._with_pipes(process, self.container.rsync_daemon(command), self.container.environment())
                return
            terminal = process.term_type is not None  # a client without TERM asks for one of no type
            if command is None and terminal:
                command = _LOGIN_IN_TMUX
            argv = self.container.login(command)
            env = {**_client_env(process), **self.container.environment()}
            if terminal:
                await self._with_terminal(process, argv, env | {"TERM": process.term_type or "dumb"})
            else:
                await self._with_pipes(process, argv, env)
        except Cut:
            process.channel.get_connection().abort()
        except (BoxFailed, OSError) as error:
            with contextlib.suppress(OSError, asyncssh.Error):
                process.stderr.write(f"emulated box: {error}\n".encode())
                process.exit(255)

    async def _with_pipes(self, process: Channel, argv: list[str], env: dict[str, str]) -> None:
        out_read, out_write = _wide_pipe()
        err_read, err_write = _wide_pipe()
        try:
            child = await self._spawn(argv, env, asyncio.subprocess.PIPE, out_write, err_write)
        finally:
            os.close(out_write)
            os.close(err_write)
        feeding = asyncio.create_task(self._feed(process, child))
        out = asyncio.create_task(self._drain(process, out_read, process.stdout))
        err = asyncio.create_task(self._drain(process, err_read, process.stderr))
        await self._finish(process, child, (out, err), feeding)

    async def _with_terminal(self, process: Channel, argv: list[str], env: dict[str, str]) -> None:
        master, slave = pty.openpty()
        _resize(slave, process.term_size)
        # A session leader's first terminal becomes its controlling one (setsid(2), tty(4)): the shell
        # opens it by name, for reading and writing: tmux draws on what it reads from.
        opening = ["/bin/sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(slave), *argv]
        try:
            child = await self._spawn(opening, env, slave, slave, slave)
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        feeding = asyncio.create_task(self._feed_terminal(process, os.dup(master), child))
        out = asyncio.create_task(self._drain(process, master, process.stdout))
        await self._finish(process, child, (out,), feeding, terminal=True)

    async def _spawn(self, argv: list[str], env: dict[str, str], stdin: int, stdout: int, stderr: int) -> Child:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=self.container.layout.home,
            env=env,
            start_new_session=True,
        )

    async def _finish(
        self,
        process: Channel,
        child: Child,
        drains: tuple[asyncio.Task[None], ...],
        feeding: asyncio.Task[None],
        *,
        terminal: bool = False,
    ) -> None:
        gone = asyncio.create_task(process.channel.wait_closed())
        ended = asyncio.create_task(child.wait())
        try:
            if terminal:
                await _all_done({ended}, gone)
                await asyncio.wait(drains, timeout=TERMINAL_LINGER_S)
            elif await _all_done({*drains}, gone):
                await _all_done({ended}, gone)
        finally:
            await _call_off(gone, ended, feeding, *drains)
        for drain in drains:
            if not drain.cancelled():
                drain.result()
        if child.returncode is None:
            if terminal:
                _signal(child, signal.SIGHUP)
            return
        with contextlib.suppress(OSError, asyncssh.Error):
            if child.returncode < 0:
                process.exit_with_signal(signal.Signals(-child.returncode).name.removeprefix("SIG"))
            else:
                process.exit(child.returncode)

    async def _drain(self, process: Channel, descriptor: int, writer: asyncssh.SSHWriter[bytes]) -> None:
        reader = asyncio.StreamReader(limit=READ)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        throttle = self.throttle()
        try:
            while data := await _read(reader):
                writer.write(await throttle.pass_on(data))
                if throttle.ended:
                    process.exit(0)
                    return
                await writer.drain()
        except (BrokenPipeError, ConnectionError):
            return
        finally:
            transport.close()

    async def _feed(self, process: Channel, child: Child) -> None:
        pipe = child.stdin
        if pipe is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionError, asyncssh.Error):
            while data := await self._incoming(process, child):
                pipe.write(data)
                self.received(len(data))
                await pipe.drain()
        pipe.close()

    async def _feed_terminal(self, process: Channel, descriptor: int, child: Child) -> None:
        try:
            while data := await self._incoming(process, child, descriptor):
                self.received(len(data))
                await asyncio.to_thread(os.write, descriptor, data)
        except (OSError, asyncssh.Error):
            return
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    async def _incoming(self, process: Channel, child: Child, terminal: int | None = None) -> bytes:
        while True:
            try:
                return await process.stdin.read(READ)
            except asyncssh.TerminalSizeChanged as change:
                if terminal is not None:
                    _resize(terminal, change.term_size)
            except asyncssh.SignalReceived as received:
                _signal(child, getattr(signal, f"SIG{received.signal}", signal.SIGTERM))
            except asyncssh.BreakReceived:
                _signal(child, signal.SIGINT)


async def _all_done(tasks: set[asyncio.Task[Any]], gone: asyncio.Task[None]) -> bool:
    """Wait until all are done or one has failed, but no longer than the client is there; whether all went well."""
    waiting = set(tasks)
    while waiting and not gone.done():
        done, _ = await asyncio.wait({*waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        waiting -= done
        if any(task.exception() for task in done):
            return False
    return not waiting


async def _call_off(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and see it end."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(READ)
    except OSError:  # a terminal whose last process is gone reads as EIO
        return b""


def _wide_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, READ)
    return read, write


def _resize(descriptor: int, size: tuple[int, int, int, int]) -> None:
    width, height, width_px, height_px = size
    packed = struct.pack("HHHH", height or 24, width or 80, width_px, height_px)
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, packed)


def _signal(child: Child, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def _client_env(process: Channel) -> dict[str, str]:
    # sshd's usual AcceptEnv: the locale, nothing else.
    return {key: value for key, value in process.env.items() if key == "LANG" or key.startswith("LC_")}
