"""Where things are on a box, and how its root directory is furnished.

The box's root has ``/workspace``, ``/root`` (HOME, with a link ``workspace`` so that
``workspace/x`` after a login and ``/workspace/x`` are the same file), ``/tmp`` and a
Python environment of its own at ``/venv/main`` that sees the packages installed on
this machine and never changes them.
"""

from __future__ import annotations

import json
import shutil
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

from harness.core import durable
from harness.emulator.box.paths import within
from harness.emulator.market import Ask

TOOLS = "emulated/bin"
VENV = "venv/main"

_PIP = """#!/bin/sh
exec python3 -m pip "$@"
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of one box under the emulator's state directory."""

    base: Path

    @property
    def root(self) -> Path:
        """Directory that the box calls ``/``."""
        return self.base / "root"

    @property
    def home(self) -> Path:
        """Directory that the box calls ``/root``."""
        return self.root / "root"

    @property
    def log(self) -> Path:
        """Log of what the container printed."""
        return self.base / "container.log"

    @property
    def authorized_keys(self) -> Path:
        """The file that decides who logs in."""
        return self.home / ".ssh" / "authorized_keys"

    @property
    def etc_ssh(self) -> Path:
        """Directory that the box calls ``/etc/ssh``: its public host keys."""
        return self.base / "etc_ssh"

    def mounts(self) -> dict[str, Path]:
        """The volumes that show in the box, by their place in it: absolute, without links."""
        try:
            return {place: Path(volume) for place, volume in json.loads(self._mounts.read_bytes()).items()}
        except FileNotFoundError:
            return {}

    def mount(self, volume: Path, place: str, *, isolated: bool) -> None:
        """Let a volume show in the box from its next start on; without a container of its own, through a link.

        Raises OSError where that link would hide something.
        """
        volume.mkdir(parents=True, exist_ok=True)
        parts = within(self.root, place, mounts=self.mounts())
        here = self.root.joinpath(*parts)
        here.mkdir(parents=True, exist_ok=True)
        if not isolated and not here.is_symlink():
            here.rmdir()
            here.symlink_to(volume.resolve())
        durable.write(self._mounts, json.dumps({"/" + "/".join(parts): str(volume.resolve())}).encode())

    @property
    def _mounts(self) -> Path:
        return self.base / "mounts.json"

    def host_key(self, identity: int) -> Path:
        """The private host key of one identity of the box."""
        return self.base / f"host_key.{identity}"


def layout_of(state_dir: Path, instance_id: int) -> Layout:
    """Where an instance's box lies under the emulator's state directory."""
    return Layout(state_dir / "boxes" / str(instance_id))


def furnish(layout: Layout, ask: Ask, path: str) -> None:
    """Make the box's root directory; what is there already stays."""
    for folder in ("workspace", "root/.ssh", "tmp", TOOLS, "var/log", "venv"):
        (layout.root / folder).mkdir(parents=True, exist_ok=True)
    link = layout.home / "workspace"
    if not link.is_symlink() and not link.exists():
        link.symlink_to("../workspace")
    layout.etc_ssh.mkdir(exist_ok=True)
    profile = layout.home / ".profile"
    if not profile.exists():  # a login shell's /etc/profile sets PATH anew
        durable.write(profile, f'export PATH="{path}"\n'.encode())
    if not (layout.root / TOOLS / "nvidia-smi").exists():
        put_nvidia_smi(layout, ask)
    if not (layout.root / VENV).exists():
        _make_venv(layout.root / VENV)


def put_nvidia_smi(layout: Layout, ask: Ask) -> None:
    """Put the emulated nvidia-smi on the box, for the GPUs of an offer."""
    source = Path(__file__).with_name("nvidia_smi.py").read_text("utf-8")
    head, rest = source.split("# END OF FACTS\n")
    facts = {
        "GPU_NAME": f"NVIDIA {ask.gpu_name}",
        "NUM_GPUS": ask.num_gpus,
        "MEMORY_MIB": ask.gpu_ram_mb,
        "DRIVER": ask.driver_version,
    }
    own = "".join(f"{name} = {value!r}\n" for name, value in facts.items())
    _script(layout.root / TOOLS / "nvidia-smi", "#!/usr/bin/env python3\n" + head + own + rest)


def operator_packages() -> list[Path]:
    """Directories that hold the packages of this Python: its environment's, and those that the environment borrows."""
    own = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    borrowed = (place for place in sys.path if Path(place).name in {"site-packages", "dist-packages"})
    return [Path(place) for place in dict.fromkeys((*own, *borrowed))]


def _make_venv(where: Path) -> None:
    unfinished = where.with_name(".unfinished")  # a kill in the middle must not leave half an environment
    shutil.rmtree(unfinished, ignore_errors=True)
    venv.EnvBuilder(with_pip=False, symlinks=True).create(unfinished)
    packages = unfinished / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (packages / "operator.pth").write_text("".join(f"{path}\n" for path in operator_packages()), "utf-8")
    for name in ("pip", "pip3"):
        _script(unfinished / "bin" / name, _PIP)
    unfinished.rename(where)


def _script(path: Path, text: str) -> None:
    durable.write(path, text.encode(), mode=0o755)
