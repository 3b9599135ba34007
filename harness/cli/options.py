"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from harness.core.errors import BadInput
from harness.core.ids import InstanceId, instance_id
from harness.core.lifecycle import ORDER, Stage
from harness.core.text import did_you_mean


def _stage(typed: str) -> Stage:
    """The stage that was typed. Raises BadInput, which names all of them, the nearest first."""
    if typed not in set(ORDER):
        raise BadInput(
            f"--until {typed}: no stage has that name",
            remedy=f"{did_you_mean(typed, ORDER)}The stages: {', '.join(ORDER)}.",
        )
    return Stage(typed)


def _instance(typed: str) -> InstanceId:
    try:
        return instance_id(typed)
    except ValueError as error:
        raise BadInput(
            f"--instance-id: {error}", remedy="harness orphans lists the instances of the account."
        ) from error


def instance_option(told: str) -> Any:
    """The option ``--instance-id``, told in words."""
    return typer.Option("--instance-id", parser=_instance, metavar="ID", help=told)


Yes = Annotated[bool, typer.Option("--yes", help="Agree in advance to the destruction, once everything is verified.")]
YesToAll = Annotated[
    bool,
    typer.Option("--yes", help="Agree in advance to the rental, within the caps, and to the destruction at the end."),
]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines, also on a terminal.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the checks that passed, too.")]
Until = Annotated[
    Stage | None,
    typer.Option(
        parser=_stage,
        metavar="STAGE",
        autocompletion=lambda: [str(stage) for stage in ORDER],
        help=f"Stop after this stage's gate has opened: {', '.join(ORDER)}.",
    ),
]
