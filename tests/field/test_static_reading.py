"""What published training scripts look like, as far as the static reading of a package is concerned."""

from __future__ import annotations

import textwrap

import pytest

from harness.core.observed import CouldNotLook
from harness.job.model import Job
from harness.static import options, script, writers
from harness.static.device_maps import device_maps
from harness.static.sources import Sources
from tests.field.case import field_case
from tests.support.facts import sound_job


def package(text: str, **texts: str) -> Sources:
    files = {name.replace("__", "."): body for name, body in texts.items()}
    code = script.parse(textwrap.dedent(text), "train.py")
    return Sources(frozenset({"train.py", *files}), {"train.py": code}, files)


CONVERT = "'llama.cpp/convert_hf_to_gguf.py'"
WRITES = [
    field_case("gguf-package", "own: the gguf package", "from gguf import GGUFWriter\nGGUFWriter('a.gguf', 'qwen2')"),
    field_case(
        "unsloth", "unslothai/notebooks: AMD-Llama3_(8B)-Ollama.py", "model.save_pretrained_gguf('model', tokenizer)"
    ),
    field_case(
        "subprocess", "own: the usual way", f"import subprocess\nsubprocess.run(['python', {CONVERT}, d], check=True)"
    ),
    field_case(
        "system",
        "own: in one line",
        "import os\nos.system(f'python llama.cpp/convert_hf_to_gguf.py {d} --outtype q8_0')",
    ),
    field_case(
        "by-name",
        "own: the command has a name",
        f"import subprocess\ncommand = ['python', {CONVERT}, d]\nprint(command)\nsubprocess.check_call(command)",
    ),
    field_case(
        "path-constant",
        "own: the converter's place is a constant",
        "import subprocess\nfrom pathlib import Path\nCONVERTER = Path('/opt/llama.cpp') / 'convert_hf_to_gguf.py'\n"
        "def main():\n    subprocess.run([sys.executable, str(CONVERTER), 'models/merged'])\nmain()",
    ),
    field_case(
        "quantize",
        "own: llama.cpp's older name",
        "import subprocess\nsubprocess.run(['./llama.cpp/quantize', a, b, 'q4_0'])",
    ),
    field_case("imported", "own: the converter as a module", "from convert_hf_to_gguf import main\nmain()"),
    field_case("auto-round", "intel/auto-round#524", "autoround.quantize_and_save(out, format='gguf:q4_k_m')"),
    field_case("mlx", "own: mlx_lm", "import subprocess\nsubprocess.run(['mlx_lm.fuse', '--export-gguf'])"),
    field_case(
        "own",
        "own: a package that packs the format itself",
        "import struct\nM = b'GGUF'\nf.write(M + struct.pack('<I', 3))",
    ),
    field_case(
        "in-a-table",
        "own: functions of the stages in a table",
        "def export():\n    GGUFWriter('a', 'llama')\nSTAGES = {'export': export}\nSTAGES[name]()",
    ),
    field_case(
        "callback",
        "own: a trainer's callback",
        "class Export(TrainerCallback):\n    def on_train_end(self, *_):\n        self.m.save_pretrained_gguf('m', t)",
    ),
]

WRITES_NOTHING = [
    field_case(
        "printed",
        "own: the script that the first users copied",
        "print('To convert to GGUF, run:')\nprint('python llama.cpp/convert_hf_to_gguf.py out')\nprint('DONE')",
    ),
    field_case("logged", "own: the same by a logger", "logger.info('then run llama-quantize on models/merged')"),
    field_case("written-down", "own: a README is written", "f.write('convert to GGUF with llama.cpp')"),
    field_case(
        "docstring",
        "own: in words only",
        "'''Merge, then llama.cpp/convert_hf_to_gguf.py.'''\nmodel.save_pretrained('out')",
    ),
    field_case(
        "if-false",
        "unslothai/notebooks: nearly every one of them",
        "model.save_pretrained('lora')\nif False:\n    model.save_pretrained_gguf('model', tokenizer)",
    ),
    field_case(
        "never-called",
        "own: a function that nothing uses",
        f"import subprocess\ndef to_gguf(d):\n    subprocess.run(['python', {CONVERT}, d])\ntrainer.train()",
    ),
    field_case(
        "called-by-nobody",
        "own: two functions that only use each other",
        "def a():\n    b()\ndef b():\n    a()\n    GGUFWriter('x', 'llama')\ntrainer.train()",
    ),
    field_case(
        "merged",
        "huggingface/peft#868",
        "m = adapter.merge_and_unload()\nm.save_pretrained(merged_id, push_to_hub=True)",
    ),
    field_case(
        "reads",
        "own: a reader of the format",
        "import struct\nassert f.read(4) == b'GGUF'\nstruct.unpack('<I', f.read(4))",
    ),
    field_case("comment", "own: a comment", "# subprocess.run(['python', 'convert_hf_to_gguf.py'])\ntrainer.train()"),
]


@pytest.mark.parametrize("text", WRITES)
def test_a_writer_is_found(text: str) -> None:
    assert writers.find(package(text), "train.py").found


@pytest.mark.parametrize("text", WRITES_NOTHING)
def test_what_only_speaks_of_a_gguf_writes_none(text: str) -> None:
    assert writers.find(package(text), "train.py").found == ()


def test_a_shell_script_counts_when_it_is_run() -> None:
    shell = "set -e\npython llama.cpp/convert_hf_to_gguf.py merged --outfile final.gguf\n"
    run = "import subprocess\nsubprocess.run(['bash', 'export.sh'])"
    assert writers.find(package(run, export__sh=shell), "train.py").found == (
        "export.sh:2: runs llama.cpp/convert_hf_to_gguf.py",
    )
    assert writers.find(package("trainer.train()", export__sh=shell), "train.py").found == ()
    told = "echo run python llama.cpp/convert_hf_to_gguf.py merged\n"
    assert writers.find(package(run, export__sh=told), "train.py").found == ()


MERGED = "m = PeftModel.from_pretrained(base, 'out')\nm = m.merge_and_unload()\n"
SOUND = [
    field_case(
        "merge-after-training",
        "SensAI-PT/LLaMa2lang#4",
        f"SFTTrainer(model=model).train()\n{MERGED}m.save_pretrained('x')",
    ),
    field_case(
        "merge-then-dpo",
        "own: SFT is merged, and DPO trains a new adapter",
        f"{MERGED}DPOTrainer(model=m, peft_config=LoraConfig(r=8))",
    ),
    field_case(
        "merge-then-new",
        "own: SFT is merged, and DPO trains a new adapter",
        f"{MERGED}m = get_peft_model(m, c)\nDPOTrainer(model=m)",
    ),
    field_case(
        "reference",
        "own: a frozen adapter is the reference",
        "r = PeftModel.from_pretrained(b, 's')\nDPOTrainer(model=m, ref_model=r)",
    ),
    field_case(
        "evaluated",
        "own: the adapter is loaded to look at answers",
        "SFTTrainer(model=m).train()\ne = PeftModel.from_pretrained(b, 'o')\ne.eval()",
    ),
    field_case(
        "attribute",
        "own: kept on an object",
        "def go(self):\n    self.m = PeftModel.from_pretrained(b, 'o')\n"
        "    self.m = self.m.merge_and_unload()\n    SFTTrainer(model=other)",
    ),
    field_case(
        "resumed",
        "artidoro/qlora: qlora.py",
        "m = PeftModel.from_pretrained(m, d, is_trainable=True)\nSeq2SeqTrainer(model=m)",
    ),
    field_case(
        "old-options-under-unsloth",
        "unslothai/unsloth: tests/saving/language_models/test_push_to_hub_merged.py",
        "from unsloth import FastLanguageModel\nSFTTrainer(model=m, tokenizer=t, dataset_text_field='text')",
    ),
    field_case(
        "found-out",
        "philschmid/deep-learning-pytorch-huggingface: run_dpo.py",
        "c = get_peft_config(a)\nDPOTrainer(model, peft_config=c)",
    ),
]
UNSOUND = [
    field_case(
        "frozen",
        "own: the adapter of SFT goes into DPO as it is loaded",
        "m = PeftModel.from_pretrained(b, 's')\nDPOTrainer(m)",
        "frozen",
    ),
    field_case(
        "frozen-in-place", "own: in one expression", "SFTTrainer(model=PeftModel.from_pretrained(b, 's'))", "frozen"
    ),
    field_case(
        "frozen-helper",
        "own: from a helper",
        "def load():\n    m = PeftModel.from_pretrained(b, 's')\n    return m\nSFTTrainer(model=load())",
        "frozen",
    ),
    field_case(
        "merged-away",
        "own: the adapter is merged, and no new one is made",
        f"{MERGED}SFTTrainer(model=m)",
        "no adapter is left",
    ),
    field_case(
        "base-as-reference",
        "own: a name for the new adapter",
        "c = LoraConfig(r=8)\nDPOTrainer(model=base, peft_config=c)",
        "becomes the reference",
    ),
]


@pytest.mark.parametrize("text", SOUND)
def test_a_sound_construct_is_left_alone(text: str) -> None:
    assert options.find(package(text), "train.py") == ()


@pytest.mark.parametrize(("text", "said"), UNSOUND)
def test_an_unsound_construct_is_named(text: str, said: str) -> None:
    found = options.find(package(text), "train.py")
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("requirements", "flagged"),
    [
        field_case(
            "old", "own: a package that pins what its options belong to", "transformers==4.36.2\ntrl==0.7.10\n", 0
        ),
        field_case("below", "own: a bound instead of a pin", "torch\ntransformers>=4.40,<5\n", 1),
        field_case("bound", "own: the bound first", "transformers<5\n", 0),
        field_case("new", "own: what is installed here", "transformers==5.23.0\ntrl==1.16.0\n", 1),
        field_case("open", "own: no pin", "transformers\ntrl\n", 1),
    ],
)
def test_options_belong_to_the_version_that_is_required(requirements: str, flagged: int) -> None:
    text = "TrainingArguments(evaluation_strategy='steps', save_strategy='steps')"
    assert len(options.find(package(text, requirements__txt=requirements), "train.py")) == flagged


def job(gpus: int) -> Job:
    return sound_job(machine={"gpus": gpus})


def load(value: str) -> str:
    return f"AutoModelForCausalLM.from_pretrained(name, device_map={value})"


CPU = "{'': 'cpu'}"


@pytest.mark.parametrize(
    ("text", "one", "eight"),
    [
        field_case("auto", "own: what the rules ask for", load("'auto'"), True, True),
        field_case("none", "huggingface/trl: most example scripts", load("None"), True, False),
        field_case(
            "left-out", "tatsu-lab/stanford_alpaca: train.py", "AutoModelForCausalLM.from_pretrained(name)", True, False
        ),
        field_case("zero", "artidoro/qlora: examples/guanaco_generate.py", load("{'': 0}"), True, False),
        field_case("cuda-0", "own: a name", load("'cuda:0'"), True, False),
        field_case("cuda-0-map", "own: a map with a name", load("{'': 'cuda:0'}"), True, False),
        field_case(
            "own-process", "own: QLoRA under accelerate", load("{'': PartialState().process_index}"), True, False
        ),
        field_case("current", "own: QLoRA under torchrun", load("{'': torch.cuda.current_device()}"), True, False),
        field_case(
            "unsloth",
            "unslothai/notebooks: its loader's default",
            "FastLanguageModel.from_pretrained(name)",
            True,
            False,
        ),
        field_case("second", "own: a GPU that one GPU is not", load("{'': 1}"), False, False),
        field_case("cpu", "own: the GPU that is paid for stays idle", load("'cpu'"), False, False),
        field_case("cpu-map", "tloen/alpaca-lora: generate.py on a CPU", load("{'': 'cpu'}"), False, False),
    ],
)
def test_one_gpu_needs_no_map_that_splits(text: str, one: bool, eight: bool) -> None:
    maps = device_maps(text)
    assert [all(map(job(gpus).maps_devices, maps)) for gpus in (1, 8)] == [one, eight]


@pytest.mark.parametrize(
    "text",
    [
        field_case(
            "in-steps",
            "tloen/alpaca-lora: export_hf_checkpoint.py",
            f"base = {load(CPU)}\nm = PeftModel.from_pretrained(base, 'a', device_map={CPU})\nm = m.merge_and_unload()",
        ),
        field_case(
            "at-once",
            "philschmid/deep-learning-pytorch-huggingface: merge_adapter_weights.py",
            "m = AutoPeftModelForCausalLM.from_pretrained(out, low_cpu_mem_usage=True)\nm = m.merge_and_unload()",
        ),
    ],
)
def test_a_model_that_is_merged_may_lie_anywhere(text: str) -> None:
    assert device_maps(text) == ()


def test_a_map_that_is_computed_is_not_guessed() -> None:
    with pytest.raises(CouldNotLook, match="cannot be read"):
        device_maps(load("None if is_deepspeed_zero3_enabled() else 'auto'"))
