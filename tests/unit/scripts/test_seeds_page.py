"""Every statement of the first user's documents is shown by something that is there; two of them are shown here."""

from __future__ import annotations

import copy
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.job import profiles
from harness.providers.vast.offers import gpu_names
from harness.static import script
from tests.support import seeds_page

PACKAGE = Path(__file__).parents[3] / "training_pkg"


@pytest.fixture(scope="module")
def source() -> dict[str, Any]:
    return tomllib.loads(seeds_page.SOURCE.read_text(encoding="utf-8"))


def test_the_page_is_what_its_source_gives(source: dict[str, Any]) -> None:
    written = seeds_page.PAGE.read_text(encoding="utf-8")
    assert written == seeds_page.page(source), "python -m tests.support.seeds_page"


def test_both_documents_are_gone_through(source: dict[str, Any]) -> None:
    counts = {document["name"]: len(document["statements"]) for document in source["document"]}
    assert counts == {"VASTAI_MAX_SPEED_AGENT.md": 51, "vastai-training-agent.md": 38}


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        ([], "nothing shows 'Package: vastai_llm_training'"),
        (["launch/no_such_check"], "launch/no_such_check, which is not there"),
        (["tests/unit/scripts/test_seeds_page.py::test_no_such"], "test_no_such, which is not there"),
        (["tests/no_such_file.py"], "which is not there"),
        (["harness no-such"], "harness no-such, which is not there"),
    ],
)
def test_a_statement_that_nothing_shows_is_an_error(source: dict[str, Any], shown: list[str], says: str) -> None:
    changed = copy.deepcopy(source)
    changed["document"][0]["statements"][0]["by"] = shown
    with pytest.raises(ValueError, match=says):
        seeds_page.page(changed)


def test_the_market_is_searched_as_the_documents_say() -> None:
    """The documents pay for SXM boards; the market's name for them is another than the one that people type."""
    assert gpu_names(profiles.tables("forex-r1-v3")["machine"]["gpu"]) == ("H100 SXM",)
    assert gpu_names("H100") == ("H100 SXM", "H100 NVL", "H100 PCIE")
    assert "gpu_name=H100 finds nothing" in (PACKAGE / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("sed") is None, reason="the documents' command is typed on the box, which has sed")
def test_the_documents_sed_sets_the_batch_size_of_the_package(tmp_path: Path) -> None:
    entry = tmp_path / "train_deepseek_forex.py"
    text = (PACKAGE / entry.name).read_text(encoding="utf-8")
    entry.write_text(text.replace("BATCH_SIZE = 32", "BATCH_SIZE = 8"), encoding="utf-8")
    assert script.batch_size(entry.read_text(encoding="utf-8")) == 8
    sed = ["sed", "-i", "s/BATCH_SIZE = [0-9]*/BATCH_SIZE = 32/", entry.name]
    subprocess.run(sed, cwd=tmp_path, check=True, timeout=60)
    assert entry.read_text(encoding="utf-8") == text
