"""The table ``[artifact]`` of a job file: the model that must come home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from harness.artifacts import quantizations
from harness.artifacts.elsewhere import without_keys
from harness.job.table import Count, Table


def _known(quantization: str) -> str:
    if quantization not in quantizations.ERRORS:
        *names, last = map(repr, quantizations.ERRORS)
        raise ValueError(f"input should be {', '.join(names)} or {last}")
    return quantization


Quantization = Annotated[str, AfterValidator(_known)]


class ArtifactTable(Table):
    """The model that must come home: a GGUF in one file or split, a merged model's folder, or an adapter alone."""

    kind: Literal["gguf", "merged", "adapter"] = "gguf"
    quantization: Quantization = "Q8_0"
    """Of a GGUF."""
    floors: dict[Quantization, Count] = Field(default={})
    """The size in bytes that a GGUF of each quantization must exceed."""
    floor: Count | None = None
    """The size in bytes that the files of a merged model, or of an adapter, must exceed together."""
    predict: bool = True
    """Tensors are held against those that the model must have. False for an architecture, or a kind of adapter, that is
    not known here: the plan leaves those checks out, and the rest stands.
    """
    base_revision: str | None = None
    """The revision of the base model that an adapter must name; not given, what it names is recorded."""
    remote_dir: str = "models/output/final"
    """Of an adapter ``models/output/adapter``, when nothing else is said."""
    destination: Path | None = None
    """A folder on this machine; not given, the job's own directory."""
    second_copy: Path | None = None
    second_copy_url: (
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*://\S+$"), AfterValidator(without_keys)] | None
    ) = None
    """The same at an address that fsspec reaches, such as ``s3://bucket/models``; it has no key in it."""

    @model_validator(mode="before")
    @classmethod
    def _adapters_place(cls, told: Any) -> Any:
        if isinstance(told, dict) and told.get("kind") == "adapter" and "remote_dir" not in told:
            return {**told, "remote_dir": "models/output/adapter"}
        return told

    @model_validator(mode="after")
    def _has_a_floor(self) -> ArtifactTable:
        if self.second_copy is not None and self.second_copy_url is not None:
            raise ValueError("one second copy is made and verified: second_copy, or second_copy_url")
        if self.kind != "gguf" and self.floor is None:
            raise ValueError(f"floor is missing: the size in bytes that the files of {self.described} must exceed")
        if self.kind == "gguf" and self.quantization not in self.floors:
            raise ValueError(f"floors has no entry for {self.quantization}")
        return self

    @property
    def floor_bytes(self) -> int:
        """The size that the artifact must exceed."""
        return self.floors[self.quantization] if self.floor is None or self.kind == "gguf" else self.floor

    @property
    def described(self) -> str:
        """The artifact in words: a GGUF by its quantization."""
        return {"gguf": self.quantization, "merged": "a merged model", "adapter": "an adapter"}[self.kind]
