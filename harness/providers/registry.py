"""The kinds of provider that a job can name: those of this package, and those that installed packages bring.

A package brings one by an entry point in the group ``harness.providers``; docs/adding-a-provider.md is the recipe.
A kind's own settings are the fields of the pydantic model ``SETTINGS`` in the module of its factory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from harness.core.errors import BadInput
from harness.core.ports import Clock, Provider
from harness.core.text import did_you_mean, misfits

if TYPE_CHECKING:
    from pydantic import BaseModel

    from harness.providers.assumptions import Assumption, Subject
    from harness.providers.scoped_keys import KeyIssuer, StopKeyIssuer

GROUP = "harness.providers"
DEFAULT = "vast"
"""The kind whose account is looked at when none is named."""

BUILT_IN: Mapping[str, str] = {
    "emulated": "harness.providers.emulated:open_provider",
    "runpod": "harness.providers.runpod:open_provider",
    "ssh": "harness.providers.ssh:open_provider",
    "vast": "harness.providers.vast:open_provider",
}
"""As pyproject.toml declares them: known in a clone that is not installed, too, and nobody else's to claim."""

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "emulated": ("emulator", "vast"),
    "runpod": ("runpod",),
    "vast": ("vast",),
}
"""Extras of this package that a built-in kind needs."""

Model = TypeVar("Model", bound="BaseModel")

_EMBEDDED = frozenset({"emulated"})
"""Kinds whose machines this machine plays: what they cost is reckoned, and nobody pays it."""
_OWN = frozenset({"ssh"})
"""Kinds whose machines the operator has: they have no price, and nothing of them is billed."""


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """All that a provider is opened with: this machine, and the kind's own settings of the job's table ``[provider]``.

    ``home`` is the harness's own folder; what a provider keeps lies in a folder of its own in there.
    """

    kind: str
    home: Path
    clock: Clock
    environ: Mapping[str, str] = field(repr=False)
    own: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def read(self, model: type[Model]) -> Model:
        """The kind's own settings, with their defaults; raises BadInput for those that the model refuses."""
        try:
            return model.model_validate(dict(self.own))
        except ValueError as error:
            told = "; ".join(f"provider.{one}" for one in misfits(cast("Any", error)))
            raise BadInput(
                f"the provider of kind {self.kind!r} cannot be opened with these settings: {told}",
                remedy="State them in the table [provider] of the job file, and name that job.",
            ) from error


def kinds() -> tuple[str, ...]:
    """The kinds that are known here. None of them is imported."""
    return tuple(sorted({*BUILT_IN, *entry_points(group=GROUP).names}))


def is_embedded(kind: str) -> bool:
    """True for a kind at which nobody pays real money; every kind that another package brings is held to cost some."""
    return kind in _EMBEDDED


def is_billed(kind: str) -> bool:
    """False for a kind whose machines are the operator's own: no check, plan or report then speaks of money."""
    return kind not in _OWN


def find(kind: str) -> EntryPoint:
    """Where the factory of a kind is, not imported; raises BadInput for an unknown kind, and for one brought twice."""
    if kind in BUILT_IN:
        return EntryPoint(kind, BUILT_IN[kind], GROUP)
    found = tuple(entry_points(group=GROUP, name=kind))
    if not found:
        raise BadInput(
            f"no provider is of kind {kind!r}; known here: {', '.join(kinds())}",
            remedy=f"{did_you_mean(kind, kinds())}Name one of these, or install the package that brings it into the "
            "environment of this harness.",
        )
    if len(found) > 1:
        raise BadInput(
            f"several packages bring a provider of kind {kind!r}: {', '.join(_package(entry) for entry in found)}",
            remedy="Uninstall all of them but one.",
        )
    return found[0]


def open_provider(settings: ProviderSettings) -> Provider:
    """The provider of a kind; raises BadInput when that is unknown or does not load, else what its factory raises."""
    return cast("Provider", _load(settings.kind)(settings))


def settings_of(kind: str) -> type[BaseModel] | None:
    """The model of a kind's own settings; None for one that has none. Raises BadInput as ``open_provider``."""
    return cast("type[BaseModel] | None", getattr(import_module(_load(kind).__module__), "SETTINGS", None))


def place(kind: str, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account or machine that is meant: the kind, and those of its settings that its ``PLACE`` names.

    All of them where it names none, and where the kind is not known here.
    """
    try:
        named = getattr(settings_of(kind), "PLACE", own)
    except BadInput:
        named = own
    return {"kind": kind, **{name: value for name, value in own.items() if name in named}}


def open_key_issuer(settings: ProviderSettings) -> KeyIssuer:
    """The scoped keys of a kind; raises BadInput for a kind that has none, else as ``open_provider``."""
    factory = getattr(import_module(_load(settings.kind).__module__), "open_key_issuer", None)
    if factory is None:
        raise BadInput(
            f"the provider of kind {settings.kind!r} issues no keys with a part of the rights",
            remedy="Give people and agents no key of it; the command guard reads their command lines meanwhile.",
        )
    return cast("KeyIssuer", factory(settings))


def open_stop_keys(settings: ProviderSettings) -> StopKeyIssuer:
    """The keys of a kind that stop one instance and nothing else; raises BadInput for a kind that has none."""
    factory = getattr(import_module(_load(settings.kind).__module__), "open_stop_keys", None)
    if factory is None:
        raise BadInput(
            f"limits.stop_unheard_s: the provider of kind {settings.kind!r} issues no key that can do nothing but stop "
            "one instance, and no other is put on a box",
            remedy="Take limits.stop_unheard_s out of the job file; harness watch looks after what was forgotten.",
        )
    return cast("StopKeyIssuer", factory(settings))


def open_subject(settings: ProviderSettings) -> Subject:
    """A kind of provider, to be tried; raises BadInput where nothing is written down of it."""
    assumptions(settings.kind)
    return cast("Subject", import_module(_load(settings.kind).__module__).open_subject(settings))


def assumptions(kind: str) -> tuple[Assumption, ...]:
    """Everything that is believed of a kind of provider; raises BadInput where nobody wrote it down."""
    found = getattr(import_module(_load(kind).__module__), "ASSUMPTIONS", None)
    if found is None:
        raise BadInput(
            f"what is believed of the provider of kind {kind!r} is written down nowhere",
            remedy="docs/conformance.md says what an adapter brings, so that it can be tried.",
        )
    return cast("tuple[Assumption, ...]", found)


def _load(kind: str) -> Any:
    entry = find(kind)
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"the provider of kind {kind!r} cannot be loaded from {entry.value}: {error}",
            remedy=f"Install it anew, with what it needs: pip install --force-reinstall {_package(entry)}",
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "gold-standard-harness"
