"""Lines of training.log, most of them read by the outside world. All are printed here, flushed, each on one line."""

from __future__ import annotations

from . import ranks

INTEGRATION = "V2 FOREX INTEGRATION: {sft} SFT + {dpo} DPO samples from YOUR data"
DATA = "DATA {name} rows={rows} built={built} sha256={digest}"
PLAN = (
    "PLAN sft_steps={sft_steps} dpo_steps={dpo_steps} batch_size={batch_size} checkpoint_every={checkpoint_every} "
    "lora_r={lora_r} lora_alpha={lora_alpha} dtype={dtype} world_size={world_size} device_map=auto devices={devices}"
)
EPOCHS = (
    "[{stage}] EPOCHS {epochs:.6g} rows={rows} rows_a_step={rows_a_step} accumulation={accumulation} seen={seen} "
    "cap={cap} all_rows_need={needed}"
)
READY_BASE = "READY base_model {name} files={files} bytes={size} tokens={tokens}"
READY_EXPORT = "READY gguf_export {quantization} bytes={size} sha256={digest}"
SCHEDULE = "[{stage}] SCHEDULE {kind} warmup_steps={warmup} lr={rate:.6g}"
STEP = "[{stage}] step {number}/{total} ({percent}%) loss={loss:.6g} lr={rate:.6g} s/step={seconds:.3f}"
MICRO_BATCH = "[{stage}] MICRO BATCH {size} of {rows} rows, checkpointing {checkpointing}: {reason}"
FIRST_LOSS = "[dpo] first loss={loss:.6f}"
SAVED = "[{stage}] Saved checkpoint {checkpoint}"
RESUME = "[{stage}] RESUME from {checkpoint} at step {number}"
PASSED_OVER = "[{stage}] PASSED OVER {checkpoint}: {reason}"
STAGE_COMPLETE = "[{stage}] COMPLETE {number}/{total} steps"
GGUF = "[export] GGUF {path} bytes={size} sha256={digest}"
COMPLETE = "TRAINING COMPLETE"
FAILED = "TRAINING FAILED: {reason}"
CUT = "[{stage}] {rows} of {of} rows are cut at max_length and lose the end of their answer"
NOTE = "[{stage}] {text}"


def say(line: str, **values: object) -> None:
    """Print one of these lines with its values now; of several ranks the first speaks, and whichever fails."""
    if ranks.first() or line is FAILED:
        print(" ".join(line.format(**values).splitlines()), flush=True)
