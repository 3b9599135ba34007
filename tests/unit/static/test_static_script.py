"""What is read from a script's syntax tree, and what is honestly not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.observed import CouldNotLook
from harness.static import device_maps, script, sources
from harness.static.sources import Sources


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("BATCH_SIZE = 32", 32),
        ("BATCH_SIZE: int = 32  # Max for 8x H100", 32),
        ("BATCH_SIZE: int\nBATCH_SIZE = 64", 64),
        ("if True:\n    BATCH_SIZE = 8\nelse:\n    BATCH_SIZE = 8", 8),
        ("SIZE = 16\nBATCH_SIZE = SIZE", 16),
        ('"""BATCH_SIZE = 64"""\nBATCH_SIZE = 32', 32),
    ],
)
def test_a_batch_size_that_stands_there(text: str, size: int) -> None:
    assert script.batch_size(text) == size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BATCH = 32", "is not set"),
        ("# BATCH_SIZE = 32", "is not set"),
        ("BATCH_SIZE = 32\nBATCH_SIZE = 64", "different values: line 1: 32, line 2: 64"),
        ("BATCH_SIZE = 32\nBATCH_SIZE *= 2", "line 2"),
        ("BATCH_SIZE = 4 * 8", "not a whole number"),
        ("BATCH_SIZE = True", "not a whole number"),
        ("BATCH_SIZE = -1", "not a whole number"),
        ("BATCH_SIZE = '32x'", "not a whole number"),
        ("import os\nBATCH_SIZE = int(os.environ['B'])", "not a whole number"),
        ("from settings import BATCH_SIZE", "not a whole number"),
        ("BATCH_SIZE, OTHER = 32, 1", "not a whole number"),
        ("BATCH_SIZE = 32\nglobals()['BATCH_SIZE'] = 64", "different values"),
        ("import train\nBATCH_SIZE = 32\ntrain.BATCH_SIZE = 64", "different values"),
        ("import train\nBATCH_SIZE = 32\nsetattr(train, 'BATCH_SIZE', 64)", "different values"),
        ("BATCH_SIZE = 32\nfor BATCH_SIZE in (1, 2):\n    pass", "line 2"),
        ("SIZE = 16\nSIZE = 17\nBATCH_SIZE = SIZE", "not a whole number"),
        ("BATCH_SIZE = 32\ndef f(:", "the script:2"),
        ("return 1", "'return' outside function"),
        ("BATCH_SIZE = 32\0", "cannot be compiled|null"),
        ("x = " + "(" * 5000, "the script"),
    ],
)
def test_a_batch_size_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(CouldNotLook, match=said):
        script.batch_size(text)


@pytest.mark.parametrize(
    ("text", "maps"),
    [
        ('AutoModelForCausalLM.from_pretrained(n, device_map="auto")', ("auto",)),
        ("transformers.AutoModelForCausalLM.from_pretrained(n)", ("None",)),
        ("Qwen2ForCausalLM.from_pretrained(n, device_map={'': 0})", ("{'': 0}",)),
        ("M = 'auto'\nAutoModel.from_pretrained(n, device_map=M)", ("auto",)),
        ("k = {'device_map': 'cuda:0'}\nAutoModel.from_pretrained(n, **k)", ("cuda:0",)),
        ("AutoModel.from_pretrained(n, **{'device_map': None})", ("None",)),
        ("load(n, device_map='cuda:1')", ("cuda:1",)),
        ("AutoTokenizer.from_pretrained(n)", ()),
        ("PeftModel.from_pretrained(base, adapter, is_trainable=True)", ()),
        ("log({'device_map': model.hf_device_map})\nplan(device_map=devices)", ()),
        ("# device_map=None\n'device_map=None'", ()),
    ],
)
def test_device_maps_that_stand_there(text: str, maps: tuple[str, ...]) -> None:
    assert device_maps.device_maps(text) == maps


@pytest.mark.parametrize(
    "text",
    [
        "AutoModel.from_pretrained(n, device_map=pick())",
        "def load(device_map='auto'):\n    AutoModel.from_pretrained(n, device_map=device_map)",
        "AutoModel.from_pretrained(n, **options)",
        "k = {'device_map': 'auto'}\nk['device_map'] = None\nAutoModel.from_pretrained(n, **k)",
        "k = {'device_map': 'auto'}\nk.update(x)\nAutoModel.from_pretrained(n, **k)",
        "k = {**other}\nAutoModel.from_pretrained(n, **k)",
        "M = 'auto'\ndef f(M):\n    AutoModel.from_pretrained(n, device_map=M)",
    ],
)
def test_device_maps_that_cannot_be_read(text: str) -> None:
    with pytest.raises(CouldNotLook, match="cannot be read"):
        device_maps.device_maps(text)


def package_of(**texts: str) -> Sources:
    files = {name.replace("__", "/") + ".py": text for name, text in texts.items()}
    return Sources(frozenset(files), {name: script.parse(text, name) for name, text in files.items()})


def test_imports_are_followed_as_python_would() -> None:
    package = package_of(
        train="from lib import a\nimport other.b as b",
        lib__a="from . import c\nfrom .sub.d import x",
        lib__c="",
        lib__sub__d="from ..e import y\nimport os",
        lib__e="",
        other__b="",
        unused="",
    )
    assert set(package.reachable("train.py")) == {
        "train.py",
        "lib/a.py",
        "lib/c.py",
        "lib/sub/d.py",
        "lib/e.py",
        "other/b.py",
    }


def test_an_entry_in_a_folder_imports_what_lies_beside_it() -> None:
    package = package_of(src__train="import helper", src__helper="", helper="")
    assert set(package.reachable("src/train.py")) >= {"src/train.py", "src/helper.py"}


def test_a_broken_module_on_the_way_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import broken")
    (tmp_path / "broken.py").write_text("def f(:")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'")
    found = sources.read(tmp_path, ["train.py", "broken.py", "latin.py"])
    assert [line.split(":")[0] for line in found.broken] == ["broken.py", "latin.py"]
    with pytest.raises(CouldNotLook, match=r"broken\.py:1"):
        found.reachable("train.py")


def test_a_text_that_cannot_be_read_keeps_the_search_from_being_whole(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_bytes(b"\xff\xfe")
    with pytest.raises(CouldNotLook, match=r"run\.sh: not UTF-8"):
        sources.read(tmp_path, ["run.sh"]).whole()
