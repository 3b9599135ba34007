"""The provider of docs/adding-a-provider.md, laid out as pip would install it."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
FILES = {title: text for _, title, text in BLOCKS if title}
ENVIRON = {"TOY_KEY": "sesame"}


def lay(folder: Path) -> Path:
    """A folder for ``sys.path`` with the module and the metadata of its package."""
    project = tomllib.loads(FILES["pyproject.toml"])["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("".join(points))
    (folder / "toy_cloud.py").write_text(FILES["toy_cloud.py"], encoding="utf-8")
    return folder


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """In this process, as long as it lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(lay(folder)))
        try:
            yield
        finally:
            sys.modules.pop("toy_cloud", None)
