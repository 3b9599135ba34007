"""``harness init``: five questions, a job file. Each has an option; nothing else is asked, rented or changed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, TypeVar

import typer

from harness.artifacts import model_shape, quantizations
from harness.artifacts.dataset import lines
from harness.cli import starting
from harness.core import canonical, durable, shipped
from harness.core.errors import BadInput
from harness.core.ids import job_name
from harness.core.text import command_line
from harness.facts.preflight_data import cached
from harness.job import estimate, profiles, schema
from harness.job.load import parse_job
from harness.job.model import ModelTable
from harness.job.writing import JobAnswers, Value, job_file

T = TypeVar("T")
_USUAL: Final = profiles.FIRST
_GPUS: Final = re.compile(r"(?:(\d{1,3}) *x *)?([^\W\d_][\w -]*)", re.IGNORECASE)
_USD: Final = re.compile(r"\$? *(\d+(?:\.\d+)?) *(?:USD|\$)?(?: */ *h)?", re.IGNORECASE)
_FLOOR: Final = 0.6
"""Share of the predicted size that a model file must exceed, as the first user's floors are: 5 of 8.1 GB."""


def init(
    file: Annotated[Path | None, typer.Argument(help="The job file to write.", show_default="NAME.toml")] = None,
    name: Annotated[str | None, typer.Option(help="The job's name.")] = None,
    package: Annotated[
        str | None,
        typer.Option(help=f"The folder of the training package; {', '.join(starting.KINDS)}: one is written, by NAME."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The folder in the package where the data files lie.")] = None,
    machine: Annotated[
        str | None, typer.Option(help="GPUs, USD an hour at most, budget in USD: '8x H100_SXM, 16, 20'.")
    ] = None,
    destination: Annotated[Path | None, typer.Option(help="The folder here where the model shall arrive.")] = None,
    profile: Annotated[str, typer.Option(help="The kind of training: tables that the file builds on.")] = _USUAL,
    embedded: Annotated[bool, typer.Option("--embedded", help="For the embedded provider: a rehearsal here.")] = False,
    own: Annotated[
        str | None,
        typer.Option("--ssh", metavar="HOST", help="For a machine of your own: its address, or name in ~/.ssh/config."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The base model, or a folder with its config.json.", show_default="the profile's")
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(help="Of the model file: Q8_0, Q4_K_M, F16.", show_default="the profile's")
    ] = None,
    remote_dir: Annotated[
        str | None, typer.Option(help="The folder of the package on the box.", show_default="the profile's")
    ] = None,
    defaults: Annotated[bool, typer.Option("--defaults", "-y", help="Ask nothing: defaults for the rest.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_schema: Annotated[bool, typer.Option("--schema", help="Print the job file's JSON Schema and end.")] = False,
) -> None:
    """Write a job file: five questions on a terminal, or their answers as options."""
    if as_schema:
        typer.echo(schema.FILE.read_text(encoding="utf-8"), nl=False)
        return
    if own is not None and embedded:
        raise BadInput("--ssh names a machine of your own, --embedded one that this machine plays: give one of them")
    kind = package if package in starting.KINDS else None
    profile = _profile(profile, kind, taken=data is not None or quantization is not None)
    usual = starting.usual(kind, embedded=embedded) if kind else profiles.tables(profile)
    kept = usual["machine"], usual["limits"]["budget_usd"]
    ask = Questions(defaults=defaults).ask
    usual_name = "rehearsal" if embedded else "myjob"
    answers: dict[str, Any] = {"profile": profile}
    answers["provider"] = None if own is None else {"kind": "ssh", "host": own}
    answers["name"] = ask("--name", name, "Name of the job", usual_name, job_name)
    answers["package"] = (
        Path(answers["name"])
        if kind
        else ask("--package", package, "Folder of the training package", usual_package(), folder_here)
    )
    path = file or Path(f"{answers['name']}.toml")
    _refuse_inside(path, answers["package"])
    if kind is None:
        data = ask("--data", data, "Folder in it for your data files", usual["data"]["directory"], str)
    answers |= _asked_machine(ask, machine, kept, own=own is not None, embedded=embedded)
    answers["destination"] = ask("--destination", destination, "Folder for the model (empty: the job's own)", "", _path)
    answers |= {"remote_dir": remote_dir} | _model(model, quantization, usual, kind)
    answers |= _data(data, answers["package"], usual["data"])
    _write(path, JobAnswers(**answers), kind, embedded=embedded, force=force)


def _profile(named: str, kind: str | None, *, taken: bool) -> str:
    """The profile to build on; ``taken`` says that an option was given which a package to be written goes without."""
    if named not in profiles.names():
        raise BadInput(f"there is no profile {named!r}; there are: {', '.join(profiles.names())}")
    if kind is not None and taken:
        raise BadInput(
            f"--package {kind} writes a package with its rows in {starting.ROWS}, whose adapter comes home: "
            "it goes without --data and --quantization"
        )
    if kind is None and named == starting.PROFILE:
        raise BadInput(f"the profile {named} names no model: harness init --package {'|'.join(starting.KINDS)}")
    return starting.PROFILE if kind else named


def _asked_machine(
    ask: Callable[..., Any], told: str | None, kept: tuple[Mapping[str, Any], float], *, own: bool, embedded: bool
) -> dict[str, Any]:
    """Answers on the machine and the budget; none for the embedded one, about which nothing need be asked."""
    usual, budget = kept
    shown = f"{usual['gpus']}x {usual['gpu']}"
    if own:
        there = ask("--machine", told, "GPUs that the job needs there, or CPU", shown, _gpus)
        return {"machine": there, "on_cpu": there["gpu"] == "CPU"}
    if told is None and embedded:
        return {}
    shown += f", {usual['max_usd_per_hour']:g}, {budget:g}"
    question = "GPUs, USD an hour at most, budget in USD"
    machine, budget = ask("--machine", told, question, shown, lambda text: _machine(text, *kept))
    return {"machine": machine, "budget_usd": budget}


@dataclass(frozen=True, slots=True)
class Questions:
    """Asks for what no option has told; raises BadInput for an answer that is none where nobody can be asked again."""

    defaults: bool

    def ask(self, option: str, given: object, text: str, usual: str, read: Callable[[str], T]) -> T:
        """The answer, read."""
        if given is not None or self.defaults:
            return _read(option, usual if given is None else str(given), read)
        if not sys.stdin.isatty():
            raise BadInput(
                f"nobody can be asked here, and {option} is not given ({text}, by default {usual!r})",
                remedy="Give it, or take the defaults for whatever is not given: --defaults.",
            )
        while True:
            typed = str(typer.prompt(text, default=usual, show_default=bool(usual)))
            try:
                return _read(option, typed.strip(), read)
            except BadInput as error:
                typer.echo(f"  {error}")


def _read(option: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise BadInput(f"{option}: {error}") from error


def usual_package() -> str:
    """The training package here, else the one that came with the harness."""
    here = Path("training_pkg")
    return str(here if here.is_dir() else shipped.folder("training_pkg"))


def folder_here(text: str) -> Path:
    """A folder of this machine; raises ValueError for what is none."""
    path = _path(text)
    if path is None or not path.is_dir():
        raise ValueError(f"{text!r} is no folder here")
    return path


def _path(text: str) -> Path | None:
    """A path as it was typed, its ``~`` expanded where the shell has not done so; None for no text."""
    if not text:
        return None
    return Path(text).expanduser() if re.match(r"~(?:[/\\]|$)", text) else Path(text)


def _refuse_inside(path: Path, package: Path) -> None:
    """Raise BadInput for a job file that would lie in its package: sent to the box, and a part of what is judged."""
    root = package.resolve()
    if path.resolve().is_relative_to(root):
        raise BadInput(
            f"{path} would lie in the package {package}: it would be sent to the box with all that it tells, and a "
            "change of the budget would make another package of it",
            remedy="Name a file outside of it: "
            + command_line(["harness", "init", str(root.parent / path.name), "--package", str(package)]),
        )


def quantization_of(text: str) -> str:
    """A quantization as it is typed; raises ValueError for one that is not known."""
    found = next((name for name in quantizations.ERRORS if name.lower() == text.lower()), None)
    if found is None:
        raise ValueError(f"{text!r} is not one of {', '.join(quantizations.ERRORS)}")
    return found


def _gpus(text: str) -> Mapping[str, Value]:
    """GPUs out of ``8x H100_SXM``, or ``CPU``."""
    gpus = _GPUS.fullmatch(text.strip())
    if gpus is None or gpus[1] == "0":
        raise ValueError(f"{text!r} does not read as GPUs, such as 8x H100_SXM")
    return {"gpu": re.sub(r"[ -]+", "_", gpus[2].strip()), "gpus": int(gpus[1] or 1)}


def _machine(text: str, usual: Mapping[str, Any], budget: float) -> tuple[Mapping[str, Value], float]:
    """GPUs, price cap and budget out of ``8x H100_SXM, 16, 20``, of which the last may be left out."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [_USD.fullmatch(part) for part in parts[1:]]
    if _GPUS.fullmatch(parts[0]) is None or not all(numbers) or len(numbers) > 2:
        raise ValueError(f"{text!r} does not read as GPUs, USD an hour, budget in USD, such as 8x H100_SXM, 16, 20")
    usd = [float(number[1]) for number in numbers if number] + [float(usual["max_usd_per_hour"]), float(budget)][
        len(numbers) :
    ]
    if not all(usd) or re.match(r"0 *x", parts[0]):
        raise ValueError(f"{text!r} has a 0")
    return {**_gpus(parts[0]), "max_usd_per_hour": usd[0]}, usd[1]


def _data(data: str | None, package: Path, usual: Mapping[str, Any]) -> dict[str, Any]:
    """The data folder, relative to the package, and the rows of its files when they are there."""
    if data is None:
        return {}
    root, told = package.resolve(), _path(data) or Path()
    inside = next((at for at in (root / told, told.resolve()) if at.is_dir()), root / told).resolve()
    if not inside.is_relative_to(root):
        raise BadInput(
            f"--data: {data} lies outside of the package {package}, with which the data is sent",
            remedy=f"Copy its files into the package, such as to {package / usual['directory']}, and name that.",
        )
    rows = {}
    for kind, of in usual["files"].items():
        file = inside / of["file"]
        if not file.is_file():
            return {"data": PurePosixPath(inside.relative_to(root)).as_posix()}
        rows[kind] = lines.count(file)
    return {"data": PurePosixPath(inside.relative_to(root)).as_posix(), "rows": rows if all(rows.values()) else None}


def _model(
    base: str | None, quantization: str | None, usual: Mapping[str, Any], kind: str | None = None
) -> dict[str, Any]:
    """Base model and quantization with what they imply, where they are not the profile's own."""
    told: dict[str, Any] = {}
    shape: Mapping[str, Any] = usual["model"]
    if base is not None and base != usual["model"]["base"]:
        shape = shape_of(base)
        told["model"] = shape
    if quantization is not None:
        told["quantization"] = _read("--quantization", quantization, quantization_of)
    if kind is not None:
        return told  # no GGUF comes of it
    chosen = told.get("quantization", usual["artifact"]["quantization"])
    if "model" in told or chosen not in usual["artifact"]["floors"]:
        usually = {name: one.default for name, one in ModelTable.model_fields.items() if not one.is_required()}
        whole = {**usually, **shape}
        size = model_shape.data_bytes(model_shape.from_config(whole), chosen)
        told["floor"] = {chosen: int(size * _FLOOR)}
    return told


def shape_of(base: str) -> dict[str, Value]:
    """Shape of a base model, from the ``config.json`` of a folder, or of the hub's local cache."""
    folder = _path(base) or Path()
    path = folder / "config.json" if folder.is_dir() else folder if folder.is_file() else cached(base, "config.json")
    if path is None or not path.is_file():
        raise BadInput(
            f"--model: the shape of {base!r} is not known here",
            remedy=f"Fetch it (hf download {command_line([base])} config.json), or name a folder with its config.json.",
        )
    try:
        config = canonical.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"--model: {path} does not read: {error}") from error
    if not isinstance(config, dict):
        raise BadInput(f"--model: {path} is no JSON object")
    shape = model_shape.from_config(config)
    return {
        "base": base,
        "architecture": str(model_shape.architecture(config)),
        **{name: getattr(shape, name) for name in model_shape.SIZES},
        "tie_word_embeddings": shape.tie_word_embeddings,
    }


def _write(path: Path, answers: JobAnswers, kind: str | None, *, embedded: bool, force: bool) -> None:
    """Write the file, once it is one that loads, and before it a package of a kind.

    Raises BadInput rather than replace one that is there.
    """
    taken = BadInput(f"{path} is there already", remedy="Name another file, or replace it: --force.")
    if path.exists() and not force:
        raise taken
    if path.is_dir() or not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written: {path if path.is_dir() else path.parent} is no place for a file")
    if kind is not None:
        text = starting.write(kind, answers, path, embedded=embedded)
        typer.echo(f"wrote {answers.package}/: {starting.ROWS} holds rows to be replaced by yours")
    else:
        base = (shipped.folder("examples") / "local.toml").read_text(encoding="utf-8") if embedded else ""
        text = job_file(answers, path.parent, base)
    job = parse_job(text, path)
    if force:
        durable.write(path, text.encode())
    elif not durable.create(path, text.encode()):
        raise taken
    typer.echo(f"wrote {path}")
    quoted = command_line([str(path)])
    missing = [name for name in job.data.paths.values() if not (job.package.source / name).is_file()]
    if missing and not job.data.allow_built_rows:
        typer.echo(f"your data is not there yet: {', '.join(missing)} in {job.package.source}")
    if not embedded:
        typer.echo(f"estimate: {estimate.in_words(job)}")
    typer.echo(f"next: harness doctor {quoted}, then: harness run {quoted}")
