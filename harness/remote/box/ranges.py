"""Serves byte ranges of one file over standard input and output, or the digests of its chunks.

Requests are lines ``<offset> <length>``; each reply is a line ``ok <offset> <length> <identity>`` and
the bytes, or a line ``changed`` or ``problem <text>``, after which the program ends. The identity
(size, mtime in ns, inode) changes when somebody writes to the file or puts another in its place.
"""

# os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH111, PTH116
from __future__ import annotations

import os
import sys
from typing import Any

from harness.remote.box import heard

BLOCK = 1 << 20
SENT_AT_ONCE = 4 << 20
"""Bytes that the reader takes between two words that it was heard from: whoever sleeps takes none."""


def main(request: Any) -> None:
    """Serve ranges, or answer the digests of all chunks as one line of JSON."""
    os.chdir(os.path.expanduser("~"))
    os.nice(request["nice"])
    path = os.path.expanduser(request["path"])
    try:
        file = os.open(path, os.O_RDONLY)
        if request["chunk"]:
            import json  # noqa: PLC0415 - as above

            say(json.dumps(digests(file, request["chunk"])))
        else:
            serve(path, file)
    except FileNotFoundError:
        say("problem there is no such file")
    except OSError as error:
        say("problem " + " ".join(str(error).split()))


def serve(path: str, file: int) -> None:
    """Answer requests until there are no more."""
    first = identity(file)
    while True:
        line = sys.stdin.buffer.readline(100)
        if not line:
            return
        offset, length = (int(word) for word in line.split())
        named = os.stat(path)
        opened = os.fstat(file)
        same_file = (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)
        if identity(file) != first or not same_file or offset + length > opened.st_size:
            say("changed")
            return
        say(f"ok {offset} {length} {first}")
        send(file, offset, length)


def send(file: int, offset: int, length: int) -> None:
    """Send a range; a file that became shorter ends the program in mid-reply, and the reader sees it end."""
    end = offset + length
    copy = hasattr(os, "sendfile")
    while offset < end:
        heard.touch()
        if copy:
            try:
                sent = os.sendfile(1, file, offset, min(end - offset, SENT_AT_ONCE))
            except BlockingIOError:
                raise
            except OSError:  # the kernel cannot send from this file system to this kind of pipe
                copy = False
                continue
        else:
            sent = os.write(1, os.pread(file, min(end - offset, BLOCK), offset))
        if sent == 0:
            raise OSError("the file became shorter")
        offset += sent


def digests(file: int, chunk: int) -> Any:
    """``{whole, chunks}``: the SHA-256 of the file and of every chunk, on all cores."""
    import concurrent.futures  # noqa: PLC0415 - only digests need it, and every stream pays for its start

    size = os.fstat(file).st_size
    with concurrent.futures.ThreadPoolExecutor(1 + (os.cpu_count() or 1)) as pool:
        whole = pool.submit(_digest, file, 0, size)
        parts = pool.map(lambda start: _digest(file, start, min(chunk, size - start)), range(0, size, chunk))
        return {"chunks": list(parts), "whole": whole.result()}


def _digest(file: int, offset: int, length: int) -> str:
    import hashlib  # noqa: PLC0415 - as above

    digest = hashlib.sha256()
    end = offset + length
    while offset < end:
        data = os.pread(file, min(end - offset, BLOCK), offset)
        if not data:
            raise OSError("the file became shorter")
        digest.update(data)
        offset += len(data)
        heard.touch()
    return digest.hexdigest()


def identity(file: int) -> str:
    """Marks of a file that change when its bytes do."""
    seen = os.fstat(file)
    return f"{seen.st_size}:{seen.st_mtime_ns}:{seen.st_ino}"


def say(line: str) -> None:
    """Send one line at once."""
    data = line.encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]
