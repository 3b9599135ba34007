"""The table ``[provider]`` of a job file: the kind of the machine's provider, and that kind's own settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails

from harness.job.table import FROM_FILE, Table
from harness.providers import registry


class ProviderTable(Table):
    """The provider of the machine: a kind of the registry of providers, and the settings that are this kind's own.

    ``emulated`` is the embedded one. A file's settings are judged by the kind's own model; those of a recorded job
    when the provider is opened, for it must remain readable without the provider's package.
    """

    model_config = ConfigDict(extra="allow")

    kind: str
    user_id: int | None = None
    """The account that the API key must belong to; not given, any."""
    kept_volumes: tuple[int, ...] = ()
    """Volumes, by id, that are meant to outlive the job's instance and to go on billing."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_its_kind(cls, told: Any, handler: Callable[[Any], Self], info: ValidationInfo) -> Self:
        if not isinstance(told, dict):
            return handler(told)
        known = {name: told[name] for name in cls.model_fields if name in told}
        own = {name: one for name, one in told.items() if name not in known and one is not None}
        table = handler({**known, **own})
        object.__setattr__(table, "__pydantic_extra__", own)  # also where a recorded job's extra fields are ignored
        if info.context == FROM_FILE and table.kind in registry.kinds():
            table.require_own()
        return table

    @property
    def own(self) -> Mapping[str, Any]:
        """Settings of the kind's own that are stated."""
        return self.model_extra or {}

    def require_own(self) -> None:
        """Raise ValidationError for settings that are not those of the kind, or that it refuses."""
        model = registry.settings_of(self.kind)
        unknown = [name for name in self.own if model is None or name not in model.model_fields]
        if unknown:
            errors = [InitErrorDetails(type="extra_forbidden", loc=(name,), input=self.own[name]) for name in unknown]
            raise ValidationError.from_exception_data("provider", errors)
        if model is not None:
            model.model_validate(dict(self.own))
