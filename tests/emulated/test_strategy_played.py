"""A stated strategy on an embedded box: two gloo ranks are proven there by the package itself, and then launched."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.ledger.events import Closed, Launched
from harness.ledger.history import fold
from harness.ledger.settled import StrategySettled
from tests.support import operator as typed
from tests.support.operator import ROOT, SUPPORT, Operator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")

TWO_GPUS = """\
market = "own"
[[offer]]
gpu_name = "H100 SXM"
dph_base = 4.0
num_gpus = 2
"""

RANKS = """
if __name__ == "__main__" and os.environ.get("RANK", "0") != "0":
    while os.getppid() != 1 and not Path("MANIFEST.json").exists():  # the first rank does the work of both
        time.sleep(0.1)
    sys.exit(0)
"""


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    monkeypatch.setattr(typed, "RUN_S", 1500.0)
    package = tmp_path / "package"
    shutil.copytree(SUPPORT / "quick_package", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "training_pkg" / "forex", package / "forex", ignore=shutil.ignore_patterns("__pycache__"))
    script = package / "train_quick.py"
    text = script.read_text(encoding="utf-8")
    assert text.count('"world_size": 1,') == 2
    text = text.replace('"world_size": 1,', '"world_size": int(os.environ.get("WORLD_SIZE", "1")),')
    script.write_text(text.replace('\nif __name__ == "__main__":', f'{RANKS}\n\nif __name__ == "__main__":'))
    shape = {"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 5}
    shape |= {"vocab_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": False}
    (package / "shape").mkdir()
    (package / "shape" / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    scenario = tmp_path / "two-gpus.toml"
    scenario.write_text(TWO_GPUS, encoding="utf-8")
    prove = 'prove = ["python3", "-m", "forex.proving", "--base", "shape"]\nprove_timeout_s = 900\n'
    changes = (
        (json.dumps((SUPPORT / "quick_package").as_posix()), json.dumps(package.as_posix())),
        ("gpus = 8", "gpus = 2"),
        ("budget_usd = 20.0", "budget_usd = 60.0"),
        ("install = []\n", f"install = []\n{prove}"),
        ('accelerator = "cpu"', 'accelerator = "cpu"\nstrategy = "ddp"'),
        ("launch_deadline_s = 30", "launch_deadline_s = 300"),
        ("training_deadline_s = 40", "training_deadline_s = 600"),
    )
    made = Operator(tmp_path, str(scenario), changes=changes)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_two_ranks_are_proven_on_the_box_and_launched(operator: Operator) -> None:
    assert operator.run() == 0
    events = operator.events()
    (settled,) = (event for event in events if isinstance(event, StrategySettled))
    assert (settled.asked, settled.used) == ("ddp", "ddp"), settled.why
    assert settled.proof is not None
    assert (settled.proof["ranks"], settled.proof["problems"]) == (2, {})
    (launched,) = (event for event in events if isinstance(event, Launched))
    assert launched.command[1:6] == ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert isinstance(events[-1], Closed)
    gate = fold(operator.records()).gates
    assert "proven" in json.dumps([one.result for stage, one in gate.items() if stage.value == "launch"])
    report = (operator.directory / "GOLD_STANDARD.md").read_text(encoding="utf-8")
    assert "strategy ddp: proven" in report
