"""The guard reads the provider's command line as the real one does: compared with the package that is installed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pytest

from harness.shellguard import vastcli

_GLOBAL = {"--url", "--retry", "--explain", "--raw", "--full", "--curl", "--api-key", "--version", "--no-color", "-h"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The real command's parser with every command registered, stopped before it would do anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("VAST_URL", "http://127.0.0.1:9")
        patch.setattr("sys.argv", ["vastai"])
        main = pytest.importorskip("vastai.cli.main")

        class Stop(Exception):
            pass

        def stop(*_: object, **__: object) -> None:
            raise Stop

        parse = main.parser.parse_args
        patch.setattr(main.parser, "parse_args", stop)
        with pytest.raises(Stop):
            main.main()
        patch.setattr(main.parser, "parse_args", parse)
        yield main.parser


def _commands(real: Any) -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in real.parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def test_the_real_command_has_no_command_that_the_table_lacks(real: Any) -> None:
    assert set(_commands(real)) == vastcli.COMMANDS
    assert real.verbs == vastcli.VERBS


def test_global_options_are_the_real_ones(real: Any) -> None:
    options = {name for action in real.parser._actions for name in action.option_strings}
    assert options == {*vastcli.GLOBAL_VALUES, *vastcli.GLOBAL_FLAGS, "--version", "-h", "--help"}


@pytest.mark.parametrize("command", sorted(vastcli.GUARDED))
def test_the_arguments_of_a_guarded_command_are_the_real_ones(real: Any, command: str) -> None:
    positionals, values, flags = vastcli.GUARDED[command]
    actions = [
        a for a in _commands(real)[command]._actions if not a.option_strings or not _GLOBAL & set(a.option_strings)
    ]
    assert [a.dest + ("+" if a.nargs == "+" else "") for a in actions if not a.option_strings] == positionals.split()
    assert {n for a in actions for n in a.option_strings if a.nargs != 0} == {
        n for value in values for n in value.split()
    }
    assert {n for a in actions for n in a.option_strings if a.nargs == 0} == {*flags}


LINES = (
    "destroy instance 5",
    "destroy instance 5 -y",
    "destroy instances 1 2 3 --ye",
    "--raw destroy instance 5",
    "--api-key K --url http://x destroy instance 5",
    "--api-key=K destroy instance 5 --raw",
    "--api K destroy instance 5",
    "--ap K destroy instance 5 --y",
    "--api-key destroy instance 5",
    "destroy --raw instance 5",
    "destroy instance --raw 5",
    "destroy instance --retry 3 5",
    "destroy instance 5 --re 3",
    "destroy instance 5 --r",
    "destroy instance",
    "destroy instances",
    "destroy instance 5 6",
    "destroy instances -- 5 6",
    "destroy instance -- 5",
    "destroy instance 5 --help",
    "destroy instance -h",
    "destroy --help",
    "--help destroy instance 5",
    "--version",
    "--version destroy instance 5",
    "--vers destroy instance 5",
    "destroyinstance 5",
    "DESTROY instance 5",
    "destr instance 5",
    "label instance 5 destroy",
    "label instance 5 destroy instance",
    "label instance destroy instance 5",
    "stop instance 5",
    "stop instances 5 6",
    "stop deployment 5",
    "recycle instance 5",
    "reboot instance 5",
    "reboot instance 5 --schedule DAILY",
    "reboot instance 5 --sched DAILY",
    "reboot instance 5 --sched=DAILY",
    "update instance 5 --image x --template_i 4",
    "update instance 5 --template 4",
    "update",
    "update --check",
    "change bid 5 --price 0.1",
    "change bid --p 0.1 5",
    "delete volume 5",
    "delete api-key 5",
    "reset api-key",
    "destroy team",
    "repl",
    "repl x",
    "copy 1:/a 2:/b -i key",
    "execute 5 rm",
    "execute 5 ls --sched HOURLY",
    "show instances --raw",
    "show instances-v1",
    "show instances --explain",
    "search offers num_gpus>=8 -o dph",
    "create instance 5 --image x --onstart-cmd destroy",
    "set api-key K",
    "logs 5 --tail 10",
    "",
    "5",
    "instance destroy 5",
)


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_as_the_real_parser_reads_it(real: Any, line: str) -> None:
    args = tuple(line.split())
    asked = vastcli.parse(args)
    found, code = _real(real, args)
    if found is None:
        # argparse ends with 2 when it refuses, with 0 when it has printed help or the version
        assert asked.command not in vastcli.GUARDED
        assert asked.command is not None or (asked.rejected is not None) == (code == 2)
        return
    assert (asked.command, asked.rejected) == (found["command"], None)
    assert ("explain" in asked.flags) == found["explain"]
    assert ("yes" in asked.flags) == found.get("yes", False)
    for name, value in asked.values.items():
        given = found[name]
        assert value == (" ".join(map(str, given)) if isinstance(given, list) else str(given)), name


def _real(real: Any, args: tuple[str, ...]) -> tuple[dict[str, Any] | None, object]:
    try:
        return vars(real.parse_args(list(args))), 0
    except SystemExit as stopped:
        return None, stopped.code
