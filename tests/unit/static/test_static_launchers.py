"""Launchers are found where they would run, and only there."""

from __future__ import annotations

import pytest

from harness.static import launchers
from harness.static.script import parse


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["python3", "train.py", "--stage", "all"], []),
        (["torchrun", "--nproc_per_node", "8", "train.py"], ["torchrun"]),
        (["/opt/conda/bin/torchrun", "x.py"], ["torchrun"]),
        (["accelerate", "launch", "x.py"], ["accelerate launch"]),
        (["accelerate", "env"], []),
        (["accelerate", "--debug", "launch", "x.py"], ["accelerate launch"]),
        (["python3", "-m", "torch.distributed.run", "x.py"], ["python -m torch.distributed.run"]),
        (["python", "-m", "torch.distributed.launch", "x.py"], ["python -m torch.distributed.launch"]),
        (["python", "-u", "-m", "accelerate.commands.launch"], ["python -m accelerate.commands.launch"]),
        (["python", "-m", "accelerate", "env"], []),
        (["env", "A=1", "nohup", "deepspeed", "x.py"], ["deepspeed"]),
        (["bash", "-lc", "cd /w && torchrun x.py"], ["torchrun"]),
        (["tmux", "new", "-d", "accelerate launch x.py"], ["accelerate launch"]),
        (["timeout", "3600", "torchrun", "x.py"], ["torchrun"]),
        (["python3", "deepspeed_notes.py"], []),
        ([], []),
    ],
)
def test_commands(argv: list[str], found: list[str]) -> None:
    assert list(launchers.in_command(argv)) == found


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("# torchrun x.py\npython3 x.py  # not torchrun", []),
        ("echo never use torchrun", []),
        ("echo 'a; torchrun b'", []),
        ("printf 'accelerate launch\\n'", []),
        ("cd w; torchrun x.py", [1]),
        ("set -e\nNCCL_DEBUG=1 nohup \\\n  torchrun x.py &", [2]),
        ("if ok; then deepspeed x.py; fi", [1]),
        ("x=$(torchrun --help)", [1]),
        ("export ACCELERATE_USE_FSDP=true", [1]),
        ("export ACCELERATE_USE_FSDP=false", []),
        ("say \"it's open", []),
    ],
)
def test_shell(text: str, lines: list[int]) -> None:
    assert [line for line, _ in launchers.in_shell(text)] == lines


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"""Never torchrun."""\n# torchrun\nraise Refused("never use accelerate launch")', []),
        ('LAUNCHERS = {"TORCHELASTIC_RUN_ID": "torchrun", "FSDP_AUTO_WRAP_POLICY": "FSDP"}', []),
        ("import deepspeed", ["imports deepspeed"]),
        ("from torch.distributed.fsdp import FullyShardedDataParallel", ["torch.distributed.fsdp"]),
        ("from torch.nn.parallel import DistributedDataParallel as DDP", ["DistributedDataParallel"]),
        ("from .deepspeed import x", []),
        ("import torch.distributed", []),
        ("torch.distributed.init_process_group('nccl')", ["init_process_group"]),
        ("SFTConfig(fsdp='full_shard', deepspeed=None)", ["fsdp='full_shard'"]),
        ("SFTConfig(fsdp='', fsdp_config={}, deepspeed=None)", []),
        ("SFTConfig(deepspeed=path)", ["deepspeed=path"]),
        ("options = {'deepspeed': 'ds.json'}", ["deepspeed='ds.json'"]),
        ("os.environ['ACCELERATE_USE_DEEPSPEED'] = 'true'", ["sets ACCELERATE_USE_DEEPSPEED"]),
        ("subprocess.run(['torchrun', 'x'])", ["torchrun"]),
        ("subprocess.Popen([sys.executable, '-m', 'torch.distributed.run', 'x'])", ["torch.distributed.run"]),
        ("os.system(f'accelerate launch {script}')", ["accelerate launch"]),
        ("subprocess.run('cd x && torchrun y', shell=True)", ["torchrun"]),
        ("os.execvp('torchrun', ['torchrun', 'x'])", ["torchrun"]),
    ],
)
def test_python(text: str, found: list[str]) -> None:
    said = [what for _, what in launchers.in_python(parse(text))]
    assert len(said) == len(found), said
    assert all(part in what for part, what in zip(found, said, strict=True)), said


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("distributed_type: FSDP", [1]),
        ("distributed_type: 'NO'\nfsdp_config: {}\ndeepspeed: null", []),
        ("# distributed_type: FSDP", []),
        ("a: 1\nfsdp_config:\n  fsdp_version: 2\nb: 2", [2, 3]),
        ("fsdp_config:\nb: 2", []),
        ('{"zero_optimization": {"stage": 2}}', [1]),
        ('{\n "deepspeed": null,\n "fsdp": [],\n "zero_optimization": {}\n}', []),
        ('deepspeed = "ds.json"', [1]),
        ('note = "never set deepspeed: it failed"', []),
    ],
)
def test_configuration(text: str, lines: list[int]) -> None:
    assert [line for line, _ in launchers.in_configuration(text)] == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [("torch\n# deepspeed\n", []), ("DeepSpeed>=0.19\n", [1]), ("deepspeed-kernels\n", []), ("  horovod[x]==1", [1])],
)
def test_requirements(text: str, lines: list[int]) -> None:
    assert [line for line, _ in launchers.in_requirements(text)] == lines
