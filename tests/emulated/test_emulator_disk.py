"""What is done to a box's disk from outside: paths stay in the box, the service's commands, copies, damage."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulator.box import damage
from harness.emulator.box.commands import run
from harness.emulator.box.layout import Layout
from harness.emulator.box.paths import resolve
from harness.emulator.refusal import Refusal
from harness.emulator.running import running
from harness.emulator.scenario import LifeEvent
from tests.support.emulator_kit import ask, create_request, rented, scenario

PARTS = st.sampled_from(["a", "b", "c", ".", "..", "link1", "link2", "etc", ""])
TARGETS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)


@given(TARGETS, TARGETS, TARGETS, st.booleans())
@settings(max_examples=200)
def test_no_path_and_no_link_leads_out(one: str, two: str, asked: str, follow: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root").resolve()
        (root / "a" / "b" / "c").mkdir(parents=True)
        for where, target in (("link1", one), ("a/link2", two)):
            if target:
                (root / where).symlink_to(target)
        mounted = Path(folder, "volume").resolve()
        for inside, mounts in ((root, {}), (mounted, {"/a/b": mounted})):
            try:
                found = resolve(root, asked, follow_last=follow, mounts=mounts)
            except OSError:  # a circle of links
                return
            home = inside if found.is_relative_to(inside) else root
            assert found.is_relative_to(home)
            assert not any(part == ".." for part in found.relative_to(home).parts)
            if follow and found.exists():
                assert found.resolve().is_relative_to(home)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "box")
    (found.root / "workspace/deep").mkdir(parents=True)
    (found.root / "workspace/note").write_text("hello")
    (tmp_path / "outside").write_text("operator's")
    (found.root / "workspace/escape").symlink_to(tmp_path)
    return found


def test_the_services_commands(layout: Layout) -> None:
    assert run(layout, "ls /workspace") == "deep\nescape\nnote\n"
    assert "5 note" in run(layout, "ls -l /workspace")
    assert run(layout, "du -s /workspace").endswith("\t/workspace\n")
    assert "No such file" in run(layout, "ls /nothing")
    assert "Is a directory" in run(layout, "rm /workspace/deep")
    assert run(layout, "rm -rf /workspace/deep /workspace/note") == ""
    assert run(layout, "ls /workspace") == "escape\n"


@pytest.mark.parametrize(
    "line", ["cat /etc/passwd", "ls workspace", "ls 'open", "rm -rf relative", "ls " + "/x" * 300, "ls /; id", ""]
)
def test_other_commands_are_refused(layout: Layout, line: str) -> None:
    with pytest.raises((Refusal, ValueError)) as refused:
        run(layout, line)
    assert isinstance(refused.value, Refusal), line


def test_the_services_commands_stay_in_the_box(layout: Layout, tmp_path: Path) -> None:
    assert "outside" not in run(layout, "ls /workspace/escape")
    run(layout, "rm -rf /workspace/escape/outside /workspace/escape /../../outside")
    assert (tmp_path / "outside").exists()
    assert "refusing" in run(layout, "rm -rf /")


@pytest.mark.parametrize(("how", "size"), [("cut", 900), ("zeros", 1000), ("flip", 1000)])
def test_damage(tmp_path: Path, how: str, size: int) -> None:
    file = tmp_path / "workspace/model.gguf"
    file.parent.mkdir()
    whole = os.urandom(900) + b"\xff" * 100
    file.write_bytes(whole)
    event: dict[str, Any] = {"do": "damage", "damage": how, "path": "workspace/*.gguf", "bytes": 100}
    damage.damage(tmp_path, LifeEvent.model_validate(event))
    found = file.read_bytes()
    assert len(found) == size
    assert found != whole
    assert found[:890] == whole[:890]


def test_a_copy_between_two_boxes(tmp_path: Path) -> None:
    with running(tmp_path / "s", scenario=scenario(isolation="none")) as emulator:
        one, two = (emulator.world.create(offer, create_request()) for offer in (7_100_001, 7_100_002))
        emulator.settle()
        boxes = emulator.world.state_dir / "boxes"
        (boxes / str(one.id) / "root/workspace/tree").mkdir()
        (boxes / str(one.id) / "root/workspace/tree/file").write_text("moved")
        body = {
            "src_id": f"C.{one.id}",
            "src_path": "/workspace/tree",
            "dst_id": f"C.{two.id}",
            "dst_path": "/workspace/x",
        }
        assert ask(emulator, "PUT", "/api/v0/commands/copy_direct/", json=body).json()["success"]
        assert (boxes / str(two.id) / "root/workspace/x/file").read_text() == "moved"
        for bad in (
            {**body, "src_path": "relative"},
            {**body, "src_path": "/nothing"},
            {"src_id": None, "dst_id": "local"},
        ):
            assert ask(emulator, "PUT", "/api/v0/commands/copy_direct/", json=bad).status_code == 400


@pytest.mark.parametrize("way", ["exec", "sftp"])
@pytest.mark.parametrize("do", ["flip", "zero", "end", "cut"])
def test_what_arrives_is_spoiled_once_and_whole_the_next_time(tmp_path: Path, way: str, do: str) -> None:
    fault = {"do": do, "after_bytes": 300_000}
    with rented(tmp_path, ssh=[fault]) as box:
        whole = os.urandom(1_000_000)
        (box.root / "workspace/file").write_bytes(whole)
        arrived = []
        for at in range(2):
            if way == "exec":
                arrived.append(box.ssh("cat workspace/file").stdout)
                continue
            target = tmp_path / f"copy{at}"
            box.copy("root@127.0.0.1:/workspace/file", str(target))
            arrived.append(target.read_bytes() if target.exists() else b"")
        assert arrived[0] != whole
        assert arrived[1] == whole
        if do == "flip":
            assert sum(a != b for a, b in zip(arrived[0], whole, strict=True)) == 1
        if do == "zero":
            assert len(arrived[0]) == len(whole)
            assert arrived[0][:300_000] == whole[:300_000]


def test_a_banner_goes_to_standard_error_before_the_login(tmp_path: Path) -> None:
    with rented(tmp_path, ssh=[{"do": "banner", "text": "Welcome, stranger.\n", "times": 0}]) as box:
        done = box.ssh("echo in")
        assert done.stdout == b"in\n"
        assert len(box.emulator.world.faults.struck()) == 1


def test_audit_and_filters_and_names(tmp_path: Path) -> None:
    with running(tmp_path / "s", scenario=scenario(isolation="none")) as emulator:
        made = ask(emulator, "PUT", "/api/v0/asks/7100001/", json={"image": "x", "disk": 9, "label": "seen"}).json()
        log = ask(emulator, "GET", "/api/v0/audit_logs/").json()
        assert [entry["api_route"] for entry in log] == ["PUT /api/v0/asks/7100001/"]
        filters = ask(emulator, "GET", "/api/v0/instances/filters/").json()["filters"]
        assert {"col": "label", "values": ["seen"]} in filters
        names = ask(emulator, "GET", "/api/v0/gpu_names/unique/", key=None).json()["gpu_names"]
        assert "H100 SXM" in names
        assert made["instance_api_key"] not in json.dumps(log)
