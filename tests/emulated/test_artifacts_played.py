"""A merged model and an adapter go the whole way through real processes, and each door shuts for what is not sound."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.ledger.events import Closed, DestroyIntended
from harness.ledger.history import History, fold
from harness.release import release as releases
from tests.support.operator import Operator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
PACKAGE = "workspace/vastai_llm_training"
COMMAND, FLOORS = '"train_quick.py", "--stage", "all"', "floors = { Q8_0 = 1_000_000 }"
SOME = {"merged": "model-00002-of-00002.safetensors", "adapter": "adapter_model.safetensors"}
FOLDERS = {"merged": "final", "adapter": "adapter"}


@pytest.fixture(params=["merged", "adapter"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def operator(tmp_path: Path, kind: str) -> Iterator[Operator]:
    changes = (
        (COMMAND, f'{COMMAND}, "--artifact", "{kind}"'),
        (FLOORS, f'kind = "{kind}"\nfloor = 10_000\nsecond_copy = "{(tmp_path / "copy").as_posix()}"'),
        ('base = "made up by the package"', 'base = "models/output/base"'),
    )
    made = Operator(tmp_path, "login-banner", changes=changes)
    yield made
    made.close()


def _history(operator: Operator) -> History:
    return fold(operator.records())


def _home(operator: Operator) -> Path:
    fetched = _history(operator).fetched
    assert fetched is not None
    return Path(fetched.path)


def _flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_folder_comes_home_and_its_instance_goes(operator: Operator, kind: str) -> None:
    """Spoilt at home once it was verified, it is mended; then it is released file by file, and reported."""
    assert operator.run("--until", "postdownload") == 0
    (_home(operator) / SOME[kind]).unlink()
    assert operator.run() == 0
    history = _history(operator)
    assert history.closed
    assert history.release_path is not None
    release = releases.read(Path(history.release_path))
    assert SOME[kind] in {part.path for part in release.files}
    assert releases.file_problem(release, _home(operator)) is None
    assert releases.file_problem(release, operator.folder / "copy" / "quick") is None
    report = json.loads((operator.directory / "GOLD_STANDARD.json").read_text(encoding="utf-8"))
    assert SOME[kind] in {one["path"] for one in report["artifact"]["files"]}
    assert "gguf_generates" not in json.dumps(report["stages"][-2]["checks"])
    assert SOME[kind] in (operator.directory / "GOLD_STANDARD.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_byte_on_the_box_keeps_the_instance(operator: Operator, kind: str) -> None:
    assert operator.run("--until", "posttrain") == 0
    rental = _history(operator).rental
    assert rental is not None
    _flip(operator.box(int(str(rental.instance_id))) / PACKAGE / "models/output" / FOLDERS[kind] / SOME[kind])
    assert operator.run() != 0
    assert SOME[kind] in operator.said[-1].stdout + operator.said[-1].stderr
    assert not {Closed, DestroyIntended} & {type(event) for event in operator.events()}
