"""How far a training is and what is left of it, by its log's own words."""

from __future__ import annotations

import pytest

from harness.log import summary
from harness.log.grammar import Trainer
from harness.log.pace import pace
from harness.log.proof import ProofLine

PROOF = ProofLine("ROWS: {sft} SFT + {dpo} DPO")
PLAN = (
    "PLAN sft_steps=100 dpo_steps=20 batch_size=32 checkpoint_every=10 lora_r=8 lora_alpha=16 dtype=bfloat16 "
    "world_size=1 device_map=auto devices=cuda:0"
)
JOB = {Trainer("sft"): 100, Trainer("dpo"): 20}
EXPECTED = {Trainer("sft"): 4.0, Trainer("dpo"): 6.0}
SFT = "[sft] step 40/100 (40%) loss=1.5 lr=0.0001 s/step=2.0"
DONE = "[sft] COMPLETE 100/100 steps"
DPO = "[dpo] step 5/20 (25%) loss=0.6 lr=1e-05 s/step=3.0"
RESUMED = "[sft] RESUME from models/output/sft/checkpoint-30 at step 30"


@pytest.mark.parametrize(
    ("lines", "step", "left_s", "trainer"),
    [
        pytest.param([PLAN], 0, 100 * 4 + 20 * 6, None, id="announced: all of it, as long as the job file says"),
        pytest.param([PLAN, SFT], 40, 60 * 2 + 20 * 6, "sft", id="its own pace, and the job file's for the other"),
        pytest.param([PLAN, SFT, DONE], 100, 20 * 6, "sft", id="the end of one"),
        pytest.param([PLAN, SFT, DONE, DPO], 105, 15 * 3, "dpo", id="the other"),
        pytest.param([PLAN, SFT, DONE, DPO, "[dpo] COMPLETE 20/20 steps"], 120, 0, "dpo", id="all"),
        pytest.param([PLAN, SFT, PLAN, RESUMED], 30, 70 * 4 + 20 * 6, None, id="gone on from a checkpoint"),
        pytest.param([PLAN, SFT.replace("2.0", "nan")], 40, 60 * 4 + 20 * 6, "sft", id="a pace that is no number"),
    ],
)
def test_what_is_done_and_what_is_left(lines: list[str], step: int, left_s: float, trainer: str | None) -> None:
    log = summary.read("".join(f"{line}\n" for line in lines).encode(), PROOF)
    seen = pace(log, JOB, EXPECTED)
    assert seen is not None
    assert (seen.step, seen.total, seen.left_s, seen.trainer) == (step, 120, left_s, trainer)


def test_without_an_announcement_nothing_is_known() -> None:
    assert pace(summary.read(f"{SFT}\n".encode(), PROOF), {}, EXPECTED) is None
