"""Proves, before anything is trained, that the run's two ends work: the base model is here, the export writes files.

The export of the real base is laid out (every tensor it needs is found); a tiny model of the same
architecture is really written and verified, in each quantisation that the run will make.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from . import base, export, runlog
from .config import Config, Model, Shape

_WORDS = ("the rate rose", "the rate fell")


def run(config: Config, directory: Path, tokenizer: Any) -> None:
    """Say ``READY base_model`` and ``READY gguf_export``; raises ExportDefect or BadConfig when one is not."""
    files = sorted(directory.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    runlog.ready("base_model", f"{config.model.name} files={len(files)} bytes={size} tokens={len(tokenizer)}")
    export.refuse_impossible(
        export.Source.of(directory, None, tokenizer), config.export.quantizations, config.export.name
    )
    with tempfile.TemporaryDirectory(prefix="forex-ready-") as folder:
        tiny = base.directory(Model(name=str(Path(folder) / "base"), built=Shape()), _WORDS, config.run.seed)
        source = export.Source.of(tiny, None, base.tokenizer(tiny))
        for quantization in config.export.quantizations:
            target = Path(folder) / f"ready.{quantization}.gguf"
            written = export.write(source, target, quantization=quantization, name="ready")
            runlog.ready("gguf_export", f"{quantization} bytes={written.size} sha256={written.sha256}")
