"""How long verifying takes beside its rivals: ``python -m benchmarks.bench_verify [--model FILE] [--data FOLDER]``.

Without ``--model`` it writes an 8.1 GB Q8_0 of the shape of DeepSeek-R1-Distill-Qwen-7B with real bytes, and
removes it. ``--data`` is a folder with the package's three data files. Medians of interleaved runs, all warm.

Bars: verifying without a hash, under a tenth of gguf.GGUFReader; all claims with the hash, and then the checks of
stage postdownload in a process of their own, within 1.25 times ``openssl dgst -sha256``; reading and judging the
rows, within twice json.loads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import gguf as rival

from harness.artifacts import digest, expectation
from harness.artifacts.dataset import rows, sound
from harness.artifacts.verify import verify_file
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.gates import judge
from tests.support.facts import facts_file
from tests.support.model_files import R1_QWEN_7B, write_gguf, write_training


def seconds(action: Callable[[], object]) -> float:
    """How long one call took."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def compare(title: str, ours: Callable[[], object], theirs: Callable[[], object], runs: int, bar: float) -> bool:
    """Run both in turns and print the medians; whether ours is within the bar."""
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(runs)]
    rivals, own = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(mine / other for other, mine in pairs)
    within = ratio <= bar
    word = "ok" if within else "MISSED"
    print(f"{title:<42} {own:8.3f} s   rival {rivals:8.3f} s   ratio {ratio:6.3f}   bar {bar:<5} {word}")
    return within


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


def models(path: Path, training: Path) -> list[bool]:
    """The bars on a large file."""
    hashed = digest.of_file(path)
    bare = expectation.of(None, "quant=Q8_0")
    trained = expectation.of(training, "quant=Q8_0")
    whole = expectation.of(training, f"over=5GB,size={hashed.size}", hashed.sha256)
    facts = training / "facts.json"
    facts.write_bytes(facts_file(Stage.POSTDOWNLOAD).dump())
    command = ["openssl", "dgst", "-sha256", str(path)]

    def openssl() -> None:
        subprocess.run(command, check=True, capture_output=True)

    def reader() -> None:
        rival.GGUFReader(path)

    return [
        compare("verify, no hash / GGUFReader", lambda: verify(path, bare), reader, 3, 0.1),
        compare("verify --config, no hash / GGUFReader", lambda: verify(path, trained), reader, 3, 0.1),
        compare("verify --config --sha256 / openssl dgst", lambda: verify(path, whole), openssl, 5, 1.25),
        compare("look and gate postdownload / openssl dgst", lambda: gated(path, whole, facts), openssl, 5, 1.25),
    ]


def data(folder: Path) -> bool:
    """The bar on rows."""
    files = sorted(folder.glob("real_*.jsonl"))

    def parse() -> None:
        for file in files:
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    json.loads(line)

    def judge() -> None:
        sound.judge([rows.read(file) for file in files])

    count = sum(len(rows.read(file).rows) for file in files)
    return compare(f"{count} rows read and judged / json.loads", judge, parse, 15, 2.0)


def main() -> None:
    """Measure what was asked for; exit 1 when a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, help="a Q8_0 written by an earlier run with --keep")
    parser.add_argument("--keep", type=Path, help="write the model here and leave it")
    parser.add_argument("--data", type=Path, help="a folder with real_*.jsonl")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        training = write_training(Path(scratch) / "training", R1_QWEN_7B)
        path = options.model or write_gguf(options.keep or Path(scratch) / "model.gguf", R1_QWEN_7B)
        within = models(path, training)
        if options.data:
            within.append(data(options.data))
    raise SystemExit(0 if all(within) else 1)


if __name__ == "__main__":
    main()
