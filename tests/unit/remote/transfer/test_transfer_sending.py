"""How a package goes out, to a box that is words only: what is sent, how often it is tried, what is believed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import BadInput, HostUnreachable, TransferFailed
from harness.core.ids import Sha256
from harness.core.observed import Observed
from harness.core.ports import Json, Progress
from harness.core.questions import Answers, TreeOf
from harness.remote.box import files as box_files
from harness.remote.box.outputs import OURS
from harness.remote.probe.probe import read
from harness.remote.ssh.pipe import CommandPipe
from harness.remote.transfer import upload

BYTES = {"a.py": b"print()\n", "rows.jsonl": b"{}\n" * 10}


def _sha256(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


class _Pipe(CommandPipe):
    """One connection: the box's answers in turn, and the number of bytes after which it is cut."""

    def __init__(self, *answers: object, takes: float = float("inf")) -> None:
        self._left = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in answers]
        self._takes = takes
        self.sent: list[tuple[dict[str, Any], bytes]] = []
        self.open = True
        self.cut = False

    def write(self, data: bytes) -> None:
        self._takes -= len(data)
        if self._takes < 0:
            self.cut = True
            raise HostUnreachable("the connection was cut")
        header, came = self.sent[-1] if self.sent else ({"bytes": 0, "offset": 0}, b"")
        if len(came) < header["bytes"] - header["offset"]:
            self.sent[-1] = (header, came + data)
        else:
            self.sent.append((json.loads(data), b""))

    def read_line(self, limit: int) -> bytes:
        del limit
        assert not self.cut or not self.open, "a box that waits for the rest says nothing"
        if not self._left:
            raise HostUnreachable("the connection ended before the box's answer did")
        return self._left.pop(0)

    def close(self) -> None:
        self.open = False


def _holds(present: Json = None, staged: Json = None) -> dict[str, Json]:
    return {"present": present or {}, "staged": staged or {}}


class _Package:
    """A package here, the directory that it goes to, and the connections that it is sent over."""

    def __init__(self, folder: Path, contents: dict[str, bytes] = BYTES) -> None:
        self.source, self.there = folder / "source", folder / "package"
        self.files = {name: _sha256(data) for name, data in contents.items()}
        self.total = sum(map(len, contents.values()))
        self.used: list[_Pipe] = []
        self.progress: list[int] = []
        self.elsewhere: dict[str, Path] = {}
        self.seen: Callable[[TreeOf], Observed[Json]] = lambda asked: Observed(
            value=box_files.tree(**asked.arguments())
        )
        for root in (self.source, self.there):
            for name, data in contents.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)

    def send(self, *pipes: _Pipe, written: tuple[str, ...] = (), on_connect: Callable[[], None] = lambda: None) -> None:
        left = list(pipes)

        def connect(_: dict[str, Json]) -> CommandPipe:
            on_connect()
            self.used.append(left.pop(0))
            return self.used[-1]

        def probe(asked: TreeOf) -> Answers:
            return Answers({asked: read(asked, self.seen(asked))})

        def show(progress: Progress) -> None:
            assert progress.total == self.total
            self.progress.append(progress.done)

        upload.send(
            self.source,
            str(self.there),
            self.files,
            elsewhere=self.elsewhere,
            connect=connect,
            probe=probe,
            on_progress=show,
            written=written,
        )


@pytest.fixture
def package(tmp_path: Path) -> _Package:
    return _Package(tmp_path)


def test_what_the_box_lacks_is_sent_and_told_of(package: _Package) -> None:
    package.send(pipe := _Pipe(_holds(), {}, {}))
    assert [(header["path"], header["bytes"], came) for header, came in pipe.sent] == [
        ("a.py", 8, BYTES["a.py"]),
        ("rows.jsonl", 30, BYTES["rows.jsonl"]),
    ]
    assert package.progress == [8, 38, 38]
    assert not pipe.open


def test_what_is_there_is_told_of_and_not_sent(package: _Package) -> None:
    package.send(pipe := _Pipe(_holds({"a.py": package.files["a.py"], "rows.jsonl": "0" * 64}), {}))
    assert [header["path"] for header, _ in pipe.sent] == ["rows.jsonl"]
    assert package.progress == [38, 38]
    package.send(_Pipe(_holds(dict(package.files))))
    assert package.progress == [38, 38, 38]


@pytest.mark.parametrize(
    ("staged", "offset"), [(0, 0), (3, 3), (30, 30), (31, 0), (-1, 0), (True, 0), ("3", 0), (3.0, 0), (None, 0)]
)
def test_a_part_that_the_box_has_is_gone_on_from_where_it_can_be_so(
    package: _Package, staged: Json, offset: int
) -> None:
    holds = _holds({"a.py": package.files["a.py"]}, {package.files["rows.jsonl"]: staged})
    package.send(pipe := _Pipe(holds, {}))
    ((header, came),) = pipe.sent
    assert (header["offset"], came) == (offset, BYTES["rows.jsonl"][offset:])


def test_of_two_files_of_the_same_bytes_one_goes_on_from_the_part(tmp_path: Path) -> None:
    package = _Package(tmp_path, {"a": b"same", "b": b"same"})
    package.send(pipe := _Pipe(_holds(staged={package.files["a"]: 3}), {}, {}))
    assert [header["offset"] for header, _ in pipe.sent] == [3, 0]


@pytest.mark.parametrize(
    ("kept", "connections"),
    [([0] * 9, 3), ([0, 5, 5, 5, 5, 5, 5], 5), ([0, 0, 5, 5, 9, 9, 9, 9, 9], 8), ([9, 4, 4, 4, 9, 9], 4)],
    ids=["nothing", "something once", "something twice", "less than before"],
)
def test_it_is_given_up_after_three_cuts_without_a_byte_more(
    package: _Package, kept: list[int], connections: int
) -> None:
    pipes = [_Pipe(_holds(staged={package.files["rows.jsonl"]: one}), takes=0) for one in kept]
    with pytest.raises(HostUnreachable):
        package.send(*pipes)
    assert len(package.used) == connections
    assert not any(pipe.open for pipe in package.used)


def test_files_that_arrived_count_as_bytes_that_are_kept(package: _Package) -> None:
    nothing = [_Pipe(_holds(), takes=0) for _ in range(2)]
    one = [_Pipe(_holds({"a.py": package.files["a.py"]}), takes=0) for _ in range(3)]
    package.send(*nothing, *one, _Pipe(_holds(dict(package.files))))
    assert len(package.used) == 6


def test_a_box_that_cannot_take_a_file_has_the_word(package: _Package) -> None:
    with pytest.raises(TransferFailed, match="cannot take the upload: no space left"):
        package.send(_Pipe(_holds(), {"problem": "no space left"}, takes=0))
    with pytest.raises(TransferFailed, match="cannot take the upload: not what was told"):
        package.send(_Pipe(_holds(), {}, {"problem": "not what was told"}))
    assert len(package.used) == 2
    assert not any(pipe.open for pipe in package.used)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"no JSON", "answers the upload oddly: b'no JSON'"),
        (b"\xff", "answers the upload oddly"),
        (b"[" * 200_000, "answers the upload oddly"),
        (b"[1]", r"cannot take the upload: \[1\]"),
        (b'{"problem": "who are you"}', "cannot take the upload: who are you"),
        (_holds(present="all"), "answers oddly about what it holds"),
        (_holds(staged="all"), "answers oddly about what it holds"),
    ],
    ids=["words", "no text", "too deep", "a list", "a problem", "what is there", "what has begun"],
)
def test_an_odd_answer_ends_the_upload_at_once(package: _Package, said: object, told: str) -> None:
    with pytest.raises(TransferFailed, match=told):
        package.send(pipe := _Pipe(said))
    assert not pipe.sent
    assert not pipe.open


def test_a_file_that_becomes_shorter_meanwhile_ends_the_upload(package: _Package) -> None:
    def shorten() -> None:
        (package.source / "rows.jsonl").write_bytes(b"{}\n")

    with pytest.raises(BadInput, match=r"rows\.jsonl became shorter while it was sent"):
        package.send(_Pipe(_holds(), {}), on_connect=shorten)


@pytest.mark.parametrize("mode", [0o755, 0o644])
def test_a_program_stays_one(package: _Package, mode: int) -> None:
    (package.source / "a.py").chmod(mode)
    package.send(pipe := _Pipe(_holds(), {}, {}))
    assert pipe.sent[0][0]["executable"] is (mode == 0o755)


@pytest.mark.parametrize(
    ("path", "held"),
    [
        ("stray.py", True),
        ("models/output/sft/state.json", False),
        ("training.log", False),
        ("proof/one.json", False),
        (f"{OURS}/launch.json", False),
        ("a.py", True),
        ("rows.jsonl", True),
    ],
)
def test_the_directory_is_looked_at_as_a_whole_at_last(package: _Package, path: str, held: bool) -> None:
    """What is written there beside the package may be there; what the package names must be as it says."""
    (package.there / path).parent.mkdir(parents=True, exist_ok=True)
    (package.there / path).write_text("other")
    held_back = pytest.raises(TransferFailed, match=f"does not hold what was sent: 1 files differ, first .'{path}'")
    with held_back if held else contextlib.nullcontext():
        package.send(_Pipe(_holds(dict(package.files))), written=("proof",))


def test_a_file_that_is_not_there_at_last_is_named(package: _Package) -> None:
    (package.there / "rows.jsonl").unlink()
    with pytest.raises(TransferFailed, match=r"1 files differ, first \['rows.jsonl'\]"):
        package.send(_Pipe(_holds(dict(package.files))))


def test_what_cannot_be_looked_at_at_last_was_not_sent(package: _Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "seen", lambda _: Observed(problem="permission denied"))
    with pytest.raises(TransferFailed, match="what was sent cannot be looked at: permission denied"):
        package.send(_Pipe(_holds(dict(package.files))))


def test_a_directory_that_could_deceive_is_refused_before_anything_is_read(package: _Package) -> None:
    package.there = Path("package\n")
    with pytest.raises(BadInput, match=r"the remote directory .* is refused"):
        package.send()
    assert package.used == []


@pytest.mark.parametrize("change", ["another", "gone"])
def test_a_file_that_is_not_as_it_was_staged_is_sent_nowhere(package: _Package, change: str) -> None:
    path = package.source / "a.py"
    if change == "gone":
        path.unlink()
    else:
        path.write_text("another")
    with pytest.raises(BadInput, match=r"a\.py (changed since its digest was taken|cannot be read)"):
        package.send()
    assert package.used == []


def test_what_lies_elsewhere_is_sent_from_there(package: _Package, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mirror" / "rows"
    elsewhere.parent.mkdir()
    (package.source / "rows.jsonl").rename(elsewhere)
    package.elsewhere = {"rows.jsonl": elsewhere}
    package.send(pipe := _Pipe(_holds(), {}, {}))
    assert [came for _, came in pipe.sent] == [BYTES["a.py"], BYTES["rows.jsonl"]]


@pytest.mark.parametrize("name", ["../rows.jsonl", "/rows.jsonl", "a\nb"])
def test_a_name_that_could_deceive_is_refused_wherever_its_bytes_lie(package: _Package, name: str) -> None:
    package.files = {name: package.files["rows.jsonl"]}
    package.elsewhere = {name: package.source / "rows.jsonl"}
    with pytest.raises(TransferFailed, match="refused"):
        package.send()
    assert package.used == []
