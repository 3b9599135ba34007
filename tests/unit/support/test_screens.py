"""The pictures in the documentation are those of the scenes, and show what a person must be able to read."""

from __future__ import annotations

import html
import re

import pytest

from tests.support import screens


def _told(name: str, columns: int) -> str:
    picture = (screens.FOLDER / f"{name}-{columns}.svg").read_text(encoding="utf-8")
    lines = re.findall(r"<text[^>]*>(.*?)</text>", picture, re.DOTALL)
    return " ".join(html.unescape(" ".join(lines)).replace("\N{NO-BREAK SPACE}", " ").split())


@pytest.mark.parametrize("columns", screens.SIZES)
@pytest.mark.parametrize("name", screens.SCENES)
def test_a_picture_shows_what_its_scene_must(name: str, columns: int) -> None:
    told = _told(name, columns)
    assert [words for words in screens.SCENES[name].shows if not re.search(words, told)] == []


def test_a_picture_loads_nothing_from_elsewhere() -> None:
    for picture in screens.FOLDER.glob("*.svg"):
        assert not re.search(r"url\(['\"]?https?:|<script|@import", picture.read_text(encoding="utf-8")), picture.name


def test_the_page_is_that_of_the_scenes() -> None:
    page = screens.FOLDER.parent / "screens.md"
    assert page.read_text(encoding="utf-8") == screens.page()
