"""Pictures of a whole job as a person sees it, typed into a real terminal of 120 and of 60 columns.

    python -m tests.support.screens          # about ten minutes; writes docs/screens, needs tmux
    python -m tests.support.screens story    # the README's picture alone, about four

A scene names the words that must be on the screen at that moment: without them nothing is drawn. The story is two
demos in one picture: one that closes, and one that a gate holds; of what they print it keeps the lines it names.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "docs" / "screens"
SIZES: Final = {120: 40, 60: 40}
"""Columns and rows of the terminals."""
STORY_COLUMNS: Final = 84
"""Columns of the README's picture: its letters are read at 700 pixels."""
STORY: Final = (
    (
        "harness demo",
        (
            r"^\w+ +✓ PASS",
            r"^job demo: CLOSED",
            r"^SHA-256:",
        ),
    ),
    (
        "harness demo --scenario artifact-damaged-on-the-box",
        (
            r"^training +✓ PASS",
            r"^ +FAIL remote_sha256_recorded",
            r"^ +expected ",
            r"^ +because ",
            r"^posttrain +✗ FAIL",
            r"^Instance \d+ bills",
            r"^next:",
            r"^exit code 3",
        ),
    ),
)
"""Commands, and which of the lines that they print are drawn: each must be there."""
_FONTS: Final = re.compile(r"@font-face \{\{.*?\}\}\n", re.DOTALL)
_LONGEST_S: Final = 900.0
_LOOK_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Scene:
    """A moment of the job: its name, its caption, and the words that a person must be able to read then."""

    name: str
    caption: str
    shows: tuple[str, ...]


SCENES: Final = {
    scene.name: scene
    for scene in (
        Scene(
            "plan",
            "Before anything is rented: what it will be, what it may cost, and a question",
            ("embedded", "total", "type .rent."),
        ),
        Scene("training", "While it trains", (r"[2-9]\d/112", "left", "spent", "Ctrl-C")),
        Scene("monitor", "`harness monitor`, in another terminal", ("loss", "spent")),
        Scene("status", "`harness status`", ("night", "spent")),
        Scene("interrupted", "Ctrl-C: what still bills, and what ends it", ("bills", "harness run night")),
        Scene("letting-go", "The file is verified; the instance's id lets it go", ("type the instance id",)),
        Scene("closed", "The end", ("SHA-256", "gone")),
        Scene("held", "A gate that did not open", ("FAIL", "saw", "expected", "next")),
    )
}


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal of tmux's, with a server of its own."""

    server: str
    session: str

    def type(self, text: str, *, enter: bool = True) -> None:
        """Type a line."""
        self._tmux("send-keys", "-t", self.session, "-l", text)
        if enter:
            self._tmux("send-keys", "-t", self.session, "Enter")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._tmux("send-keys", "-t", self.session, "C-c")

    def shown(self, *, styled: bool = False) -> str:
        """The screen, with its colours where they are asked for."""
        return self._tmux("capture-pane", "-p", *(["-e"] if styled else []), "-t", self.session).rstrip()

    def printed(self) -> list[str]:
        """Every line since the beginning, as long as it was printed, with its colours."""
        return self._tmux("capture-pane", "-p", "-e", "-J", "-S", "-", "-t", self.session).splitlines()

    def wait_for(self, *words: str) -> None:
        """Look until the screen shows all the words; raises TimeoutError with what it shows instead."""
        deadline = time.monotonic() + _LONGEST_S
        while not all(re.search(word, self.shown()) for word in words):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{words} did not show:\n{self.shown()}")
            time.sleep(_LOOK_S)

    def _tmux(self, *words: str) -> str:
        return subprocess.run(["tmux", "-L", self.server, *words], check=True, capture_output=True, text=True).stdout


@contextmanager
def terminals(columns: int, home: Path) -> Iterator[tuple[Terminal, Terminal]]:
    """Two terminals side by side, in which ``harness`` has a home of its own."""
    server = f"screens-{columns}-{os.getpid()}"
    path = os.pathsep.join((str(Path(sys.prefix) / "bin"), os.environ["PATH"]))
    shell = f"env HARNESS_HOME={shlex.quote(str(home))} PATH={shlex.quote(path)} PS1='$ ' LC_ALL=C.UTF-8 sh"
    size = ["-x", str(columns), "-y", str(SIZES.get(columns, 40))]
    try:
        for name in ("work", "look"):
            subprocess.run(
                [
                    "tmux",
                    "-L",
                    server,
                    "-f",
                    "/dev/null",
                    "new-session",
                    "-d",
                    *size,
                    "-s",
                    name,
                    "-c",
                    str(home),
                    shell,
                ],
                check=True,
            )
        yield Terminal(server, "work"), Terminal(server, "look")
    finally:
        subprocess.run(["tmux", "-L", server, "kill-server"], check=False)


def draw(scene: Scene, terminal: Terminal, columns: int, folder: Path) -> None:
    """Write the screen of a scene, once it shows what it must."""
    terminal.wait_for(*scene.shows)
    _write(Text.from_ansi(terminal.shown(styled=True)), scene.name, columns, folder / f"{scene.name}-{columns}.svg")


def _write(screen: Text, title: str, columns: int, path: Path) -> None:
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(screen, soft_wrap=True)
    picture = console.export_svg(title=title, code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT), unique_id=path.stem)
    path.write_text(picture, encoding="utf-8", newline="\n")


def tell(folder: Path) -> None:
    """Run both demos of the story and draw what they print."""
    printed = []
    for command, _ in STORY:
        with tempfile.TemporaryDirectory(prefix="screens-") as scratch, terminals(STORY_COLUMNS, Path(scratch)) as both:
            both[0].type(f"clear; {command}; echo the end")
            both[0].wait_for(r"(?m)^the end$")
            printed.append(both[0].printed())
    _write(story(printed), "gold-standard-harness", STORY_COLUMNS, folder / "story.svg")


def story(printed: Sequence[Sequence[str]]) -> Text:
    """The lines of the story, by what its commands printed; raises ValueError for one that is not there."""
    lines = []
    for (command, wanted), told in zip(STORY, printed, strict=True):
        texts = [Text.from_ansi(line) for line in told]
        kept = [text for text in texts if any(re.search(pattern, text.plain) for pattern in wanted)]
        missing = [pattern for pattern in wanted if not any(re.search(pattern, text.plain) for text in kept)]
        if missing:
            raise ValueError(f"{command} printed no {missing}")
        lines += [Text.assemble(("$ ", "bold green"), (command, "bold")), *kept, Text()]
    return Text("\n").join(row for line in lines[:-1] for row in _rows(line))


def _rows(line: Text) -> list[Text]:
    """A line in at most two rows of the picture, broken at a word; evidence, which is indented, in one."""
    broken = [line] if line.plain.startswith("    ") else line.wrap(Console(width=STORY_COLUMNS), STORY_COLUMNS)
    rows = [*broken[:1], Text(" ").join(broken[1:])] if len(broken) > 1 else [*broken]
    for row in rows:
        row.truncate(STORY_COLUMNS, overflow="ellipsis")
    return rows or [line]


def record(columns: int, folder: Path) -> None:
    """Drive one job from its plan to its end, and another into a gate that stays shut."""
    with tempfile.TemporaryDirectory(prefix="screens-") as scratch:
        home = Path(scratch)
        for name, more in (("night", ""), ("wrong", "features = 15301\n")):
            text = (ROOT / "examples" / "local.toml").read_text(encoding="utf-8")
            text = text.replace('name = "demo"', f'name = "{name}"').replace(
                "../training_pkg", str(ROOT / "training_pkg")
            )
            text = text.replace("[data]\n", f"[data]\n{more}")
            (home / f"{name}.toml").write_text(text, encoding="utf-8")
        with terminals(columns, home) as (work, look):

            def drawn(name: str, terminal: Terminal = work) -> None:
                draw(SCENES[name], terminal, columns, folder)

            work.type("clear; harness run night.toml")
            drawn("plan")
            work.type("rent")
            drawn("training")
            look.type("clear; harness monitor night")
            drawn("monitor", look)
            look.interrupt()
            look.type("clear; harness status")
            drawn("status", look)
            work.interrupt()
            drawn("interrupted")
            work.type("clear; harness run night")
            drawn("letting-go")
            number = re.search(r"instance (\d+)", work.shown())
            work.type(number[1] if number else "")
            drawn("closed")
            work.type("clear; harness run wrong.toml")
            drawn("held")


def page() -> str:
    """The page that shows them."""
    lines = [
        "# Screens",
        "",
        "Drawn by `python -m tests.support.screens` from real terminals of 120 and 60 columns.",
        "",
    ]
    for scene in SCENES.values():
        lines += [f"## {scene.caption}", ""]
        lines += [f"![{scene.caption}, {columns} columns](screens/{scene.name}-{columns}.svg)" for columns in SIZES]
        lines += [""]
    return "\n".join(lines)


def main() -> None:
    """Write the pictures and their page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    tell(FOLDER)
    if sys.argv[1:] == ["story"]:
        return
    for columns in SIZES:
        record(columns, FOLDER)
    (FOLDER.parent / "screens.md").write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
