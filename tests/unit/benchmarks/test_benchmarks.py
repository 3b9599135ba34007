from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as every
from benchmarks import rounds, table
from benchmarks.__main__ import Outcome
from benchmarks.table import Row, Standing

ROOT = Path(__file__).resolve().parents[3]
MET = Row("verify", "openssl", 1.0, 2.0, 1.25)
MISSED = Row("verify", "openssl", 3.0, 2.0, 1.25)
NOT_MEASURED = Row("probe", "pytest-testinfra", 1.0, bar=0.1, why="not installed: pip install X")


def ending(code: str) -> Outcome:
    return every.outcome("made", [sys.executable, "-c", "import sys; from benchmarks import table\n" + code])


def test_help_lists_every_benchmark() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    assert len(names) == 8
    assert names <= set(ended.stdout.split())


@pytest.mark.parametrize(
    ("row", "standing", "fails"),
    [
        (MET, Standing.MET, False),
        (Row("w", "r", 1.25, 1.0, 1.25), Standing.MET, False),
        (MISSED, Standing.MISSED, True),
        (NOT_MEASURED, Standing.NOT_MEASURED, True),
        (Row("w", "r", None, 2.0, 1.0), Standing.NOT_MEASURED, True),
        (Row("w", "r", 0.0, 0.0, 1.0), Standing.NOT_MEASURED, True),
        (Row("w", "r", 1.0), Standing.NOT_MEASURED, False),
        (Row("w", "r", 9.0, 2.0), Standing.NO_BAR, False),
        (Row("w", ours=9.0), Standing.NO_BAR, False),
        (Row("w", ours=9.0, bar=1.0), Standing.NOT_MEASURED, True),
        (Row("w", why="not installed"), Standing.NOT_MEASURED, False),
    ],
)
def test_a_row_is_met_only_with_both_figures_and_within_its_bar(row: Row, standing: Standing, fails: bool) -> None:
    assert (row.standing, row.fails) == (standing, fails)


def test_a_row_is_shown_with_its_figures_and_its_reason() -> None:
    assert MET.cells() == ("verify", "openssl", "1 s", "2 s", "0.5", "1.25", "met")
    assert NOT_MEASURED.cells()[2:] == ("1 s", "", "", "0.1", "not measured: not installed: pip install X")
    assert Row("w", "r", 3366.4, 0.06667, unit="MiB").cells()[2:4] == ("3366 MiB", "0.0667 MiB")


def test_a_cell_cannot_break_the_table() -> None:
    assert table.markdown(("a", "b"), [("x|y", "one\ntwo")]) == "| a | b |\n| --- | --- |\n| x\\|y | one two |\n"


def test_the_rows_of_a_benchmark_come_back_and_its_bars_decide() -> None:
    ran = "table.run(table.parser('').parse_args(), lambda _: [table.Row('w', 'r', 1.0, {theirs}, 1.0)])"
    assert ending(ran.format(theirs=2.0)) == Outcome("made", (Row("w", "r", 1.0, 2.0, 1.0),))
    assert not ending(ran.format(theirs=2.0)).fails
    assert ending(ran.format(theirs=0.5)) == Outcome("made", (Row("w", "r", 1.0, 0.5, 1.0),))
    assert ending(ran.format(theirs=0.5)).fails


@pytest.mark.parametrize(("row", "status"), [(MET, 0), (MISSED, table.NOT_MET), (NOT_MEASURED, table.NOT_MET)])
def test_a_benchmark_alone_ends_with_its_standing(row: Row, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        table.run(table.parser("").parse_args([]), lambda _: [row])
    assert ended.value.code == status
    assert row.what in capsys.readouterr().out


def test_a_benchmark_that_breaks_off_keeps_its_rows_and_fails() -> None:
    broken = ending(
        "def rows(_):\n    yield table.Row('w', 'r', 1.0, 2.0, 1.0)\n    raise RuntimeError('the line is cut')\n"
        "table.run(table.parser('').parse_args(), rows)"
    )
    assert broken.rows == (Row("w", "r", 1.0, 2.0, 1.0),)
    assert broken.broken == "failed: RuntimeError: the line is cut"
    assert broken.fails


def test_a_missing_module_is_said_with_the_command_and_is_not_passed() -> None:
    missing = ending("try:\n    import no_such_rival\nexcept ModuleNotFoundError as error:\n    table.absent(error)")
    assert missing.broken == f"not measured: no_such_rival is not installed: {table.INSTALL}"
    assert missing.fails


@pytest.mark.parametrize(
    ("name", "module"),
    [("export", "torch"), ("preflight", "currency_converter"), ("gpu --tiny", "torch"), ("verify", "gguf")],
)
def test_a_benchmark_without_its_modules_says_so(name: str, module: str) -> None:
    script, *options = name.split()
    without = f"import runpy, sys; sys.modules['{module}'] = None; runpy.run_module('benchmarks.bench_{script}'{{}})"
    named = ", run_name='__main__', alter_sys=True" if options else ""
    missing = every.outcome(name, [sys.executable, "-c", without.format(named), *options])
    assert missing == Outcome(name, (), f"not measured: {module} is not installed: {table.INSTALL}")


@pytest.mark.parametrize("code", ["sys.exit(9)", "pass"])
def test_a_benchmark_that_says_nothing_is_not_passed(code: str) -> None:
    assert ending(code).fails


def test_the_report_counts_what_was_not_measured_apart_from_what_was_met() -> None:
    outcomes = [Outcome("one", (MET, MISSED)), Outcome("two", (NOT_MEASURED,)), Outcome("three", (), "failed: so")]
    written = every.report(outcomes, quick=True)
    assert "1 met, 1 missed, 1 not measured, 0 no bar. 1 of 3 benchmarks did not come to their end." in written
    assert "| one | verify | openssl | 3 s | 2 s | 1.5 | 1.25 | missed |\n" in written
    assert "| three |  |  |  |  |  |  | failed: so |\n" in written


def test_one_failure_hides_no_other_benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended = {"export": Outcome("export", (), "failed: so"), "verify": Outcome("verify", (MET,))}
    monkeypatch.setattr(every, "outcome", lambda name, _: ended[name])
    out = tmp_path / "new" / "table.md"

    def run(*names: str) -> int:
        only = [word for name in names for word in ("--only", name)]
        monkeypatch.setattr(sys, "argv", ["benchmarks", *only, "--out", str(out)])
        return every.main()

    assert run("export", "verify") == 1
    assert "failed: so" in out.read_text()
    assert "| met |" in out.read_text()
    assert run("verify") == 0


def test_every_round_runs_every_variant_once_and_checks_lie_outside_the_time() -> None:
    times = iter([1.0, 3.0, 10.0, 14.0])
    seen: list[str] = []
    ours = rounds.timed(lambda: "made", seen.append, clock=lambda: next(times))
    assert rounds.in_turns({"ours": ours}, 2) == {"ours": [2.0, 4.0]}
    assert seen == ["made", "made"]
    turns = rounds.in_turns({"a": lambda: 1, "b": lambda: 2}, 3)
    assert turns == {"a": [1, 1, 1], "b": [2, 2, 2]}
