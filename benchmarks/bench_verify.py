"""How long verifying a model file takes beside its rivals.

    python -m benchmarks.bench_verify [--model FILE | --keep FILE]

Without ``--model`` it writes an 8.1 GB Q8_0 of the shape of DeepSeek-R1-Distill-Qwen-7B with real bytes, and
removes it; ``--quick`` writes four of its layers. Medians, all warm.

Bars: verifying without a hash, under a tenth of gguf.GGUFReader; all claims with the hash, and then the checks of
stage postdownload in a process of their own, within 1.25 times ``openssl dgst -sha256`` of the 8.1 GB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks import rounds, table
from benchmarks.table import Row
from harness.artifacts import digest, expectation
from harness.artifacts.verify import verify_file
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates import judge

try:
    import gguf

    from tests.support.facts import facts_file
    from tests.support.model_files import R1_QWEN_7B, write_gguf, write_training
except ModuleNotFoundError as error:
    table.absent(error)

READER, OPENSSL = "gguf.GGUFReader", "openssl dgst -sha256"


def verify(path: Path, known: expectation.Expectation) -> None:
    """Verify, and insist that nothing was found."""
    wrong = [finding for finding in verify_file(path, known) if finding.verdict is not Verdict.PASS]
    if wrong:
        raise SystemExit(f"{path}: {wrong}")


def gated(path: Path, known: expectation.Expectation, facts: Path) -> None:
    """A whole gate: the look at the file, then pytest on recorded facts of the stage; insist that it opens."""
    verify(path, known)
    result = judge.judge(facts)
    if result.verdict is not Verdict.PASS:
        raise SystemExit(f"{facts}: {result.problems}")


def measure(path: Path, training: Path, *, quick: bool) -> Iterator[Row]:
    """A row for each way to verify; beside openssl a small file is not judged: starting a process weighs there."""
    hashed = digest.of_file(path)
    bare = expectation.of(None, "quant=Q8_0")
    trained = expectation.of(training, "quant=Q8_0")
    whole = expectation.of(training, f"over=1GB,size={hashed.size}", hashed.sha256)
    facts = training / "facts.json"
    facts.write_bytes(facts_file(Stage.POSTDOWNLOAD).dump())
    size = f"{hashed.size / 1e9:.1f} GB"

    def openssl() -> None:
        subprocess.run([*OPENSSL.split(), str(path)], check=True, capture_output=True)

    def beside(rival: Callable[[], object], *ways: Callable[[], object], runs: int) -> tuple[float, ...]:
        actions = {str(number): rounds.timed(action) for number, action in enumerate((rival, *ways))}
        return tuple(median(seconds) for seconds in rounds.in_turns(actions, runs).values())

    reader, *ours = beside(
        lambda: gguf.GGUFReader(path),
        lambda: verify(path, bare),
        lambda: verify(path, trained),
        runs=1 if quick else 3,
    )
    yield Row(f"verify {size}, no hash", READER, ours[0], reader, 0.1)
    yield Row(f"verify --config {size}, no hash", READER, ours[1], reader, 0.1)
    bar = None if quick else 1.25
    ways = ("verify --config --sha256", "look and gate postdownload")
    if not shutil.which("openssl"):
        yield from (Row(f"{way}, {size}", OPENSSL, bar=bar, why="openssl is not installed") for way in ways)
        return
    theirs, *ours = beside(
        openssl, lambda: verify(path, whole), lambda: gated(path, whole, facts), runs=3 if quick else 5
    )
    yield from (Row(f"{way}, {size}", OPENSSL, own, theirs, bar) for way, own in zip(ways, ours, strict=True))


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the file that was named, or one that is written for it."""
    config = {**R1_QWEN_7B, "num_hidden_layers": 4} if options.quick else R1_QWEN_7B
    with tempfile.TemporaryDirectory() as scratch:
        training = write_training(Path(scratch) / "training", config)
        path = options.model or write_gguf(options.keep or Path(scratch) / "model.gguf", config)
        yield from measure(path, training, quick=options.quick)


if __name__ == "__main__":
    parser = table.parser(__doc__)
    parser.add_argument("--model", type=Path, help="a Q8_0 written by an earlier run with --keep")
    parser.add_argument("--keep", type=Path, help="write the model here and leave it")
    table.run(parser.parse_args(), rows)
