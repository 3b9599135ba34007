"""Fine-tuning with axolotl by config.yml, as the harness runs it: yours to change. Never run without a GPU.

python3 train.py          trains, or goes on from the newest whole checkpoint
python3 train.py --ready  proves that the base model is there

Axolotl's own command starts a launcher of processes, which the harness refuses; its training is called here, in this
one. The hooks are those of axolotl.integrations.base.BasePlugin.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from axolotl.cli.train import do_cli
from axolotl.integrations.base import BasePlugin
from harness_contract import Contract, ready

BATCH_SIZE = 16
CONFIG = Path("config.yml")
DATA = "data/train.jsonl"
OUTPUT = "models/output/sft"
ADAPTER = "models/output/adapter"
SETTINGS = dict(re.findall(r"(?m)^(\w+): *(\S+)", CONFIG.read_text(encoding="utf-8")))

contract = Contract(base=SETTINGS["base_model"], data={"examples": DATA})


class Followed(BasePlugin):
    """Axolotl's plugin, named in config.yml, that follows its trainer."""

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        """Write the trainer's lines."""
        del cfg, trainer
        return [sys.modules["train"].contract.callback("sft")]


def main() -> None:
    """Train and save an adapter; ``models/output/`` is where the harness looks for it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ready", action="store_true")
    if options.parse_args().ready:
        ready(SETTINGS["base_model"])
        return
    sys.modules["train"] = sys.modules["__main__"]  # what config.yml names is this very module
    with contract:
        newest = contract.newest("sft", OUTPUT, below=int(SETTINGS["max_steps"]))
        do_cli(config=str(CONFIG), **({"resume_from_checkpoint": newest} if newest else {}))
        leave = shutil.ignore_patterns("checkpoint-*")
        shutil.copytree(OUTPUT, ADAPTER, ignore=leave, dirs_exist_ok=True)
        contract.finish(ADAPTER)


if __name__ == "__main__":
    main()
