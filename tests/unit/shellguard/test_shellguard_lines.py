"""A table of command lines: what people and agents type, plain or in disguise, and what the command guard must say."""

# ruff: noqa: E501 - a line stays one line, quoted as it is typed
from __future__ import annotations

import pytest

from harness.shellguard import cmdexe, pycode, rules
from harness.shellguard.judge import judge, judge_argv
from harness.shellguard.reading import Shell
from harness.shellguard.rules import Decision, Rule
from harness.shellguard.seen import Violation

ALLOW = None

BASH: tuple[tuple[Rule | None, str], ...] = (
    # the seeds' own quick reference goes by, all but its last line
    (ALLOW, "vastai search offers 'gpu_name=H100 num_gpus>=8 rentable=true'"),
    (ALLOW, "vastai create instance 7 --image 'pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel' --disk 150"),
    (ALLOW, "scp -P 22 -r vastai_llm_training root@ssh5.vast.ai:/workspace/"),
    (ALLOW, "ssh -p 22 root@ssh5.vast.ai"),
    (ALLOW, "harness ssh night"),
    (ALLOW, "harness ssh night --print"),
    (ALLOW, "harness ssh night -- tail -5 training.log"),
    (ALLOW, "sed -i 's/BATCH_SIZE = [0-9]*/BATCH_SIZE = 32/' train_deepseek_forex.py"),
    (ALLOW, "tmux new -s train"),
    (ALLOW, "python3 train_deepseek_forex.py --stage all 2>&1 | tee training.log"),
    (ALLOW, """ssh -p 22 root@h "tail -5 /workspace/vastai_llm_training/training.log | grep -E '(%|/330|loss)'" """),
    (ALLOW, 'ssh -p 22 root@h "nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader"'),
    (ALLOW, 'ssh -p 22 root@h "ls -la /workspace/vastai_llm_training/models/output/final/*.gguf"'),
    (ALLOW, "scp -P 22 root@h:/workspace/vastai_llm_training/models/output/final/*.gguf ./models/forex-r1-v3/"),
    (rules.DESTROY, "vastai destroy instance 123"),
    # loss by another name
    (rules.REMOVE, "ssh root@h 'dd if=/dev/zero of=models/output/final/m.gguf'"),
    (rules.REMOVE, "ssh root@h 'cp /dev/null models/output/final/m.gguf'"),
    (rules.REMOVE, "ssh root@h 'tar cf /tmp/x.tar --remove-files models/output'"),
    (rules.REMOVE, "ssh root@h 'rsync -a --delete /empty/ models/output/'"),
    (rules.REMOVE, "sftp root@h <<< 'rm models/output/final/m.gguf'"),
    (rules.REMOVE, "lftp -e 'rm models/output/final/m.gguf; bye' sftp://root@h"),
    (ALLOW, "ssh root@h 'dd if=models/output/final/m.gguf bs=1M count=1 | sha256sum'"),
    (ALLOW, "ssh root@h 'tar cf - models/output' > x.tar"),
    # beside a line that only names the act: a script of a name, and one that cannot be seen
    (ALLOW, "grep 'vastai destroy instance' notes.md; sh tool.sh"),
    (rules.UNREADABLE, "grep 'vastai destroy instance' notes.md; sh $TOOL"),
    (ALLOW, "sftp root@h <<< 'get models/output/final/m.gguf'"),
    (rules.CREDIT, "vastai transfer credit me@example.org 100"),
    (rules.ACCEPT_LOSS, "harness abandon night --accept-loss 'I accept the loss of everything on instance 1'"),
    (rules.ACCEPT_LOSS, "python3 -m harness abandon night --accept-loss='I accept the loss'"),
    (rules.UNLOCK, "harness guard unlock"),
    (rules.KEPT_KEY, "cat ~/.local/share/gold-standard-harness/keys/vast.json"),
    (ALLOW, "harness abandon night"),
    (ALLOW, "harness guard -- vastai destroy instance 5"),
    (ALLOW, "harness destroy night --yes"),
    (rules.DIRECT, "curl -sSfXDELETE https://console.vast.ai/api/v0/instances/5/"),
    (rules.UNREADABLE, """perl -e 'system("vastai destroy instance 5")'"""),
    # spellings of the same words
    (rules.DESTROY, "vastai destroy instances 1 2 3 --ye"),
    (rules.DESTROY, "vastai --raw --api-key K destroy instance 5 -y"),
    (rules.DESTROY, '\'vastai\' "destroy" ins"tan"ce 5'),
    (rules.DESTROY, r"va\stai destr\oy instance 5"),
    (rules.DESTROY, "$'\\x76astai' $'destroy' instance 5"),
    (rules.DESTROY, "vast\\\nai destroy \\\n instance 5"),
    (rules.DESTROY, "vastai 'destroy instance' 5"),
    (rules.DESTROY, "/usr/local/bin/vastai destroy instance 5"),
    (rules.DESTROY, ".venv/Scripts/vastai.exe destroy instance 5"),
    (rules.DESTROY, "./vast.py destroy instance 5"),
    (rules.DESTROY, "python3 ~/vast.py destroy instance 5"),
    (rules.DESTROY, "python -m vastai destroy instance 5"),
    (rules.DESTROY, "python3 -m vastai.cli.main destroy instance 5"),
    (rules.DESTROY, "uvx vastai@1.9.1 destroy instance 5"),
    (rules.DESTROY, "pipx run vastai==1.9.1 destroy instance 5"),
    (rules.DESTROY, "uv run --with vastai vastai destroy instance 5"),
    # in front of the command
    (rules.DESTROY, "VAST_URL=http://x vastai destroy instance 5"),
    (rules.DESTROY, "env X=1 vastai destroy instance 5"),
    (rules.DESTROY, "env -i PATH=/bin -u FOO vastai destroy instance 5"),
    (rules.DESTROY, "sudo -u me nohup nice -n 5 time -p vastai destroy instance 5"),
    # an option's value is not the command: what comes behind it is, and may only be a mention
    *(
        (ALLOW, f"{before} x echo 'vastai destroy instance 5'")
        for before in (
            *(f"sudo --{one}" for one in ("user", "group", "host", "prompt", "chdir", "chroot", "role", "type")),
            *(f"sudo --{one}" for one in ("other-user", "close-from", "command-timeout")),
            *(f"sudo -{one}" for one in "CDghpRrTtUu"),
            *(f"doas -{one}" for one in "Cu"),
            *(f"env {one}" for one in ("-u", "-C", "--unset", "--chdir")),
            *(f"nice {one}" for one in ("-n", "--adjustment")),
            *(f"ionice {one}" for one in ("-c", "-n", "--class", "--classdata")),
            *(f"timeout {one} HUP" for one in ("-k", "-s", "--kill-after", "--signal")),
            *(f"stdbuf {one}" for one in ("-i", "-o", "-e", "--input", "--output", "--error")),
            *(f"time {one}" for one in ("-f", "-o", "--format", "--output")),
            *(f"xargs -{one}" for one in "adEILnPs"),
            *(f"xargs --{one}" for one in ("arg-file", "delimiter", "replace", "max-lines", "max-args", "max-procs")),
            *(f"chroot --{one} x" for one in ("userspec", "groups")),
            *("timeout", "taskset", "chroot", "caffeinate -t", "caffeinate -w", "exec -a"),
        )
    ),
    (rules.DESTROY, "timeout 60 vastai destroy instance 5"),
    (rules.DESTROY, "yes | vastai destroy instance 5"),
    (rules.DESTROY, "! vastai destroy instance 5"),
    (rules.DESTROY, "> log vastai destroy instance 5"),
    (rules.DESTROY, "exec vastai destroy instance 5"),
    (rules.DESTROY, "command vastai destroy instance 5"),
    # in chains and blocks
    (rules.DESTROY, "ls; vastai destroy instance 5"),
    (rules.DESTROY, "scp root@h:/w/x.gguf . && vastai destroy instance 5"),
    (rules.DESTROY, "false || vastai destroy instance 5"),
    (rules.DESTROY, "sleep 3600 && vastai destroy instance 5 &"),
    (rules.DESTROY, "(cd /tmp; vastai destroy instance 5)"),
    (rules.DESTROY, "{ vastai destroy instance 5; }"),
    (rules.DESTROY, "if true; then vastai destroy instance 5; fi"),
    (rules.DESTROY, "for i in 1 2; do vastai destroy instance $i; done"),
    (rules.DESTROY, "while read i; do vastai destroy instance $i; done < ids"),
    (rules.DESTROY, "case x in x) vastai destroy instance 5;; esac"),
    (rules.DESTROY, "f() { vastai destroy instance 5; }; f"),
    (rules.DESTROY, "trap 'vastai destroy instance 5' EXIT"),
    (rules.DESTROY, "echo $(vastai destroy instance 5)"),
    (rules.DESTROY, 'echo "done: `vastai destroy instance 5`"'),
    (rules.DESTROY, "cat <(vastai destroy instance 5)"),
    (rules.DESTROY, "x=${y:-$(vastai destroy instance 5)}"),
    (rules.DESTROY, "[[ -n $(vastai destroy instance 5) ]]"),
    (rules.DESTROY, "cat <<EOF\n$(vastai destroy instance 5)\nEOF"),
    (rules.DESTROY, "ls # a comment \\\nvastai destroy instance 5"),
    (rules.DESTROY, "ls\n\\vastai destroy instance 5"),
    (rules.DESTROY, "ls # c\n\n\\vastai destroy instance 5"),
    (rules.DESTROY, "vast\\\n\\ai destroy instance 5"),
    (rules.DESTROY, "ls # c \\\n\\\nvastai destroy instance 5"),
    # carried by another program
    (rules.DESTROY, "sh -c 'vastai destroy instance 5'"),
    (rules.DESTROY, 'bash -lc "cd x && vastai destroy instance 5"'),
    (rules.DESTROY, "sh -c 'sh -c \"vastai destroy instance 5\"'"),
    (rules.DESTROY, "eval vastai destroy instance 5"),
    (rules.DESTROY, "eval 'vastai destroy' instance 5"),
    (rules.DESTROY, "echo 'vastai destroy instance 5' | sh"),
    (rules.DESTROY, "printf 'vastai destroy instance 5' | bash -s"),
    (rules.DESTROY, "bash <<< 'vastai destroy instance 5'"),
    (rules.DESTROY, "bash <<'EOF'\nvastai destroy instance 5\nEOF"),
    (rules.DESTROY, "cat <<EOF | sh\nvastai destroy instance 5\nEOF"),
    (rules.DESTROY, "echo 'vastai destroy instance 5' | at now + 1 hour"),
    (rules.DESTROY, "vastai show instances -q | xargs -n1 vastai destroy instance"),
    (rules.DESTROY, "vastai show instances -q | xargs -I{} sh -c 'vastai destroy instance {}'"),
    (rules.DESTROY, "find . -name x -exec vastai destroy instance 5 ';'"),
    (rules.DESTROY, "sudo -u test sh -c 'vastai destroy instance 5'"),
    (rules.DESTROY, "tmux new -s ssh -d 'vastai destroy instance 5'"),
    (rules.DESTROY, "watch -n 60 'vastai destroy instance 5'"),
    (rules.DESTROY, "tmux new -d 'sleep 60; vastai destroy instance 5'"),
    (rules.DESTROY, "tmux send-keys -t train 'vastai destroy instance 5' Enter"),
    (rules.DESTROY, "ssh root@h vastai destroy instance 5"),
    (rules.DESTROY, "harness ssh night -- vastai destroy instance 5"),
    (rules.DESTROY, "ssh -p 22 root@h <<'EOF'\nvastai destroy instance 5\nEOF"),
    (rules.DESTROY, "some-new-wrapper --fast vastai destroy instance 5"),
    (rules.DESTROY, 'pwsh -Command "& vastai destroy instance 5"'),
    (
        rules.DESTROY,
        "powershell.exe -EncodedCommand dgBhAHMAdABhAGkAIABkAGUAcwB0AHIAbwB5ACAAaQBuAHMAdABhAG4AYwBlACAANQA=",
    ),
    (rules.DESTROY, 'cmd.exe /c "vastai destroy instance 5"'),
    (rules.DESTROY, "V=vastai; $V destroy instance 5"),
    (rules.DESTROY, 'C="destroy instance 5"; vastai $C'),
    (rules.DESTROY, "python -c 'from vastai import VastAI; VastAI().destroy_instance(id=5)'"),
    (rules.API_KEY, "python -c 'from vastai import VastAI; VastAI().destroy_team()'"),
    (rules.DESTROY, "python - <<'EOF'\nimport vastai\nvastai.VastAI().destroy_instances([5])\nEOF"),
    (rules.DESTROY, "python -c 'import os; os.system(\"vastai destroy instance 5\")'"),
    (rules.DESTROY, 'python -c \'import subprocess as s; s.run(["vastai", "destroy", "instance", "5"])\''),
    (rules.DESTROY, "vastai destroy instances 5 -- --help"),
    (rules.DESTROY, "vastai destroy instance 5 {\U000af829}"),
    # hidden from the reader
    (rules.HIDDEN, "vastai repl"),
    (rules.HIDDEN, "vastai $CMD"),
    (rules.HIDDEN, 'vastai "$@"'),
    (rules.HIDDEN, "vastai {destroy,instance,5}"),
    (rules.HIDDEN, "vastai $(cat command.txt)"),
    (rules.HIDDEN, "echo destroy instance 5 | xargs vastai"),
    (rules.HIDDEN, "alias v=vastai; v show instances"),
    (rules.HIDDEN, 'v() { vastai "$@"; }; v destroy instance 5'),
    (rules.UNREADABLE, "$TOOL destroy instance 5"),
    (rules.UNREADABLE, "vast* destroy instance 5"),
    (rules.UNREADABLE, "v destroy instance 5"),
    (rules.UNREADABLE, "V=vastai; D=destroy; eval '$V $D instance 5'"),
    (rules.UNREADABLE, "! f() { vas$'\\x74'ai destroy instance 5; }; f"),
    (rules.UNREADABLE, "if vastai destroy instance 5"),
    (rules.UNREADABLE, "tr a-z n-za-m <<< 'vastai destroy instance' | sh"),
    (rules.UNREADABLE, 'X="vastai destroy instance 5"; X=${X}; eval "$X"'),
    # the other ways to lose what was trained
    (rules.RECYCLE, "vastai recycle instance 5"),
    (rules.UPDATE, "vastai update instance 5 --image other/image"),
    (rules.SCHEDULE, "vastai reboot instance 5 --sched DAILY"),
    (rules.SCHEDULE, "vastai execute 5 'ls' --schedule HOURLY"),
    (rules.REMOVE, "vastai execute 5 'rm -r /workspace/models'"),
    (rules.REMOVE, "ssh -p 22 root@h 'rm -rf /workspace/vastai_llm_training/models/output'"),
    (rules.REMOVE, "ssh root@h rm -rf models/output"),
    (rules.REMOVE, "harness ssh night -- rm -rf models/output"),
    (rules.REMOVE, "harness ssh night 'rm -rf models/output'"),
    (rules.REMOVE, "python3 -m harness ssh night -- rm -rf /workspace"),
    (rules.REMOVE, "harness ssh night <<'EOF'\nrm -rf models/output\nEOF"),
    (rules.REMOVE, "ssh root@h 'cd /workspace && rm -rf *'"),
    (rules.REMOVE, "ssh root@h 'find /workspace -name \"*.gguf\" -delete'"),
    (rules.REMOVE, "ssh root@h 'bash -c \"rm -f models/output/final/x.Q8_0.gguf\"'"),
    (rules.REMOVE, "echo 'rm -rf models' | ssh root@h"),
    (rules.REMOVE, "rm -rf /workspace/vastai_llm_training/models/output/sft/checkpoint-100"),
    (rules.REMOVE, "rsync -a --remove-source-files root@h:/workspace/models/ ."),
    (rules.BID, "vastai change bid 5 --price 0.01"),
    (rules.VOLUME, "vastai delete volume 5"),
    (rules.API_KEY, "vastai delete api-key 5"),
    (rules.API_KEY, "vastai reset api-key"),
    (rules.API_KEY, "vastai destroy team"),
    (rules.DIRECT, "curl -X DELETE https://console.vast.ai/api/v0/instances/5/ -H 'Authorization: Bearer K'"),
    (rules.DIRECT, "curl --request=DELETE $URL/api/v0/volumes/5/"),
    (rules.DIRECT, "curl -X PUT https://console.vast.ai/api/v0/instances/recycle/5/"),
    (rules.DIRECT, "http DELETE https://console.vast.ai/api/v0/instances/5/"),
    (rules.DIRECT, "python -c 'import requests; requests.delete(\"https://console.vast.ai/api/v0/instances/5/\")'"),
    # what does not train
    (rules.LAUNCHER, "accelerate launch train_deepseek_forex.py"),
    (rules.LAUNCHER, "python -m accelerate.commands.launch train.py"),
    (rules.LAUNCHER, "torchrun --nproc_per_node 8 train.py"),
    (rules.LAUNCHER, "python -m torch.distributed.run --nproc_per_node 8 train.py"),
    (rules.LAUNCHER, "deepspeed train.py"),
    (rules.LAUNCHER, "python train.py --deepspeed ds.json"),
    (rules.LAUNCHER, "python train.py --fsdp 'full_shard auto_wrap'"),
    (rules.LAUNCHER, "ACCELERATE_USE_FSDP=true python train.py"),
    (rules.LAUNCHER, "export ACCELERATE_USE_DEEPSPEED=1"),
    (rules.LAUNCHER, "ssh root@h 'cd /workspace && tmux new -d \"torchrun train.py\"'"),
    # downloads that nobody waits for
    (rules.BACKGROUND, "scp -P 22 root@h:/workspace/models/output/final/x.gguf . &"),
    (rules.BACKGROUND, "nohup scp -P 22 root@h:/w/final/x.gguf . > /dev/null 2>&1 &"),
    (rules.BACKGROUND, "lftp -c 'mirror /w/models/output/final .' sftp://root@h &"),
    (rules.DESTROY, "npm exec vastai destroy instance 5"),
    (rules.DESTROY, "npm x -- vastai destroy instance 5"),
    (ALLOW, "npm publish --tag 'vastai destroy instance 5'"),
    (rules.DESTROY, "git filter-branch --tree-filter 'vastai destroy instance 5'"),
    (rules.BACKGROUND, "(scp -P 22 root@h:/w/final/x.gguf . && echo done) &"),
    (rules.BACKGROUND, "tmux new -d 'scp root@h:/w/x.gguf .'"),
    (rules.BACKGROUND, "rsync -e 'ssh -p 22' root@h:/w/models/ models/ & disown"),
    (rules.BACKGROUND, "ssh root@h cat /w/models/x.gguf > x.gguf &"),
    (rules.BACKGROUND, "harness ssh night -- cat /w/models/x.gguf > x.gguf &"),
    # worth a look, and no more
    (rules.STOP, "vastai stop instance 5"),
    (rules.STOP, "vastai stop instances 5 6"),
    (rules.OTHER_MACHINE, "terraform destroy"),
    (rules.REBOOT, "vastai reboot instance 5"),
    (rules.TEMPLATE, "vastai update template abc --image x"),
    (rules.COPY, "vastai copy 5:/workspace/x local:."),
    (rules.COPY, "vastai cloud copy --src /workspace --dst /b"),
    (rules.LOCK_OUT, "vastai detach ssh 5 6"),
    (rules.PRINTS_KEY, "vastai show user --explain"),
    (rules.PRINTS_KEY, "vastai --curl show instances"),
    (rules.REMOVE_UNKNOWN, "ssh root@h 'rm -r old'"),
    (rules.REMOVE_UNKNOWN, "ssh root@h 'cd /workspace/vastai_llm_training && git clean -fdx'"),
    (rules.REMOVE_UNKNOWN, "ssh root@h 'mv /workspace/vastai_llm_training/models/output /dev/shm/'"),
    (rules.REMOVE_UNKNOWN, """ssh root@h 'python3 -c "import shutil; shutil.rmtree(\\"/workspace\\")"'"""),
    (rules.REMOVE, """ssh root@h 'python3 -c "import shutil; shutil.rmtree(\\"models/output\\")"'"""),
    (rules.REMOVE, "ssh root@h 'dd if=/dev/zero of=/workspace/vastai_llm_training/models/output/final/x.gguf'"),
    (rules.REMOVE, "sftp root@h <<< 'rm /workspace/vastai_llm_training/models/output/final/x.gguf'"),
    (rules.REMOVE, "lftp -e 'rm -r models/output; quit' sftp://root@h"),
    (rules.INTERRUPT, "ssh root@h reboot"),
    (rules.INTERRUPT, "ssh root@h 'tmux kill-server'"),
    (rules.INTERRUPT, "ssh root@h 'sudo pkill -f train_deepseek'"),
    (rules.INTERRUPT, "ssh root@h 'sudo -n pkill -f train_deepseek'"),
    (rules.INTERRUPT, "ssh root@h 'doas -n kill 4711'"),
    (ALLOW, "ssh root@h 'kill -0 4711'"),
    (ALLOW, "ssh root@h 'tmux ls; ps aux; mv notes.txt notes.old'"),
    (ALLOW, "sftp root@h <<< 'get /workspace/vastai_llm_training/models/output/final/x.gguf'"),
    # each branch that refuses, once
    (rules.OTHER_MACHINE, "curl -X DELETE https://rest.runpod.io/v1/pods/abc"),
    (rules.STOP, "curl -T body.json -X PUT https://console.vast.ai/api/v0/instances/5/"),
    (rules.STOP, "http PUT https://console.vast.ai/api/v0/instances/5/ state=stopped"),
    (rules.STOP, """curl -X PUT https://console.vast.ai/api/v0/instances/5/ '-d{"state":"stopped"}'"""),
    (rules.DESTROY, "timeout --foreground 10 vastai destroy instance 5"),
    (rules.DESTROY, "sudo --user=me vastai destroy instance 5"),
    (rules.DESTROY, "sudo --user me -- vastai destroy instance 5"),
    (rules.DESTROY, "vastai execute 5 'vastai destroy instance 5'"),
    (rules.DESTROY, "pwsh -NoProfile <<< 'vastai destroy instance 5'"),
    (rules.UNREADABLE, "cat 'vastai destroy instance 5.ps1' | pwsh -"),
    (rules.UNREADABLE, "cat 'vastai destroy instance 5.py' | python3"),
    (rules.UNREADABLE, "pwsh -EncodedCommand dgBhAHM"),
    (rules.UNREADABLE, "pwsh -EncodedCommand AAAA"),  # half a character of UTF-16
    (rules.DESTROY, "X='echo hi\nvastai destroy instance 5'; bash -c \"$X\""),
    (rules.DESTROY, "X='# as agreed\nvastai destroy instance 5'\nbash -c \"$X\""),
    (rules.DESTROY, "cmd /q /c vastai destroy instance 5"),
    (
        rules.DESTROY,
        "cat > x.js <<'EOF'\nrequire('vastai').destroy_instance(5)\nEOF\npython -c 'import vastai; vastai.destroy_instance(5)'",
    ),
    (
        rules.UNREADABLE,
        "cat > x.js <<'EOF'\nrequire('child_process').execSync('vastai destroy instance 5')\nEOF\nnode x.js",
    ),
    (rules.DESTROY, "python2 -c 'import vastai; print vastai.destroy_instance(5)'"),
    (
        rules.DIRECT,
        "python2 -c 'import requests; print requests.delete(\"https://console.vast.ai/api/v0/instances/5/\")'",
    ),
    (
        rules.DESTROY,
        "python -c \"import subprocess as s; c=['vastai']; c.append('destroy'); c.extend(['instance','5']); s.run(c)\"",
    ),
    (rules.DESTROY, "python -c \"import os; f=lambda: 'vastai destroy instance 5'; os.system(f())\""),
    (rules.DESTROY, "python -c \"import os; d={}; d['c']='vastai destroy instance 5'; os.system(d['c'])\""),
    (rules.DESTROY, "python -c \"import os; os.system('vastai destroy instance %d' % 5)\""),
    (rules.DESTROY, "python -c \"import os; os.system(' '.join(['vastai','destroy','instance','5']))\""),
    (rules.DESTROY, "python -c \"__import__('os').system('vastai destroy instance 5')\""),
    (
        rules.DESTROY,
        "python -c \"import subprocess as s; p=s.Popen(['sh'],stdin=-1); p.stdin.write('vastai destroy instance 5')\"",
    ),
    (ALLOW, "python -c \"import os, re; re.compile('vastai destroy instance 5').sub('', open(os.devnull).read())\""),
    (ALLOW, "python -c \"import os; raise SystemExit('vastai destroy instance 5 is not for ' + os.name)\""),
    (ALLOW, "python -c \"import os; a=[]; a.append('vastai destroy instance 5'); print(a)\""),
    (ALLOW, "python -c \"import os; print('vastai destroy instance 5'.count('v'), os.name)\""),
    (ALLOW, "python -c \"import os; a = b = 'vastai destroy instance 5'; b = a; print(b)\""),
    (ALLOW, "vastai execute 5 'nvidia-smi'"),
    # nothing to hold
    (ALLOW, "ls -la"),
    (ALLOW, ""),
    (ALLOW, "git push origin main"),
    (ALLOW, "vastai show instances --raw"),
    (ALLOW, "vastai show instance $ID"),
    (ALLOW, "vastai logs 5 --tail 100"),
    (ALLOW, "vastai execute 5 'ls -la /workspace'"),
    (ALLOW, "vastai execute 5 'du -d2 -h'"),
    (ALLOW, "vastai destroy instance --help"),
    (ALLOW, "vastai --version"),
    (ALLOW, "vastai start instance 5"),
    (ALLOW, "vastai label instance 5 destroy"),
    (ALLOW, "echo 'vastai destroy instance 5'"),
    (ALLOW, 'git commit -m "Never vastai destroy instance before the download"'),
    (ALLOW, "grep -rn 'vastai destroy instance' docs"),
    (ALLOW, "cat > notes.md <<'EOF'\n4. vastai destroy instance <ID>\nEOF"),
    (ALLOW, "pip install deepspeed accelerate torchrun-xyz"),
    (ALLOW, "accelerate config"),
    (ALLOW, "torchrun --help"),
    (ALLOW, "python train.py --strategy auto --use_fsdp=false"),
    (ALLOW, "scp -P 22 root@h:/w/final/x.gguf . & wait"),
    (ALLOW, "scp -r package root@h:/workspace/ &"),
    (ALLOW, "ssh root@h 'rm -rf /tmp/build'"),
    (ALLOW, "rm -rf build"),
    (ALLOW, "curl https://console.vast.ai/api/v0/instances/5/"),
    (ALLOW, "curl -X DELETE https://example.org/api/items/5"),
    (ALLOW, "harness destroy forex-r1-v3"),
    (ALLOW, "harness guard -- vastai destroy instance 5"),
    (ALLOW, "find . -name '*.md' -exec grep -l 'vastai destroy instance' {} +"),
    (ALLOW, "git ls-files | xargs -n 5 grep -n 'vastai destroy instance'"),
    (ALLOW, "which torchrun; man accelerate"),
)

POWERSHELL: tuple[tuple[Rule | None, str], ...] = (
    (rules.DESTROY, "vastai destroy instance 5"),
    (rules.DESTROY, "& vastai destroy instance 5"),
    (rules.DESTROY, r'& "C:\Program Files\Python311\Scripts\vastai.exe" destroy instance 5'),
    (rules.DESTROY, r".\.venv\Scripts\vastai.exe destroy instance 5 -y"),
    (rules.DESTROY, "VASTAI.EXE destroy instance 5"),
    (rules.DESTROY, "vas`Tai destro`y instance 5"),
    (rules.DESTROY, "vastai destroy `\n  instance 5"),
    (rules.DESTROY, "vastai --% destroy instance 5"),
    (rules.DESTROY, "$v = 'vastai'; & $v destroy instance 5"),
    (rules.DESTROY, "& ('vast' + 'ai') destroy instance 5"),
    (rules.DESTROY, "iex 'vastai destroy instance 5'"),
    (rules.DESTROY, 'Invoke-Expression -Command "vastai destroy instance $id"'),
    (rules.DESTROY, "'vastai destroy instance 5' | iex"),
    (rules.DESTROY, "@'\nvastai destroy instance 5\n'@ | Invoke-Expression"),
    (rules.DESTROY, "Start-Process vastai -ArgumentList 'destroy','instance','5' -Wait"),
    (rules.DESTROY, "Start-Process -FilePath vastai -ArgumentList 'destroy instance 5'"),
    (rules.DESTROY, 'cmd /c "vastai destroy instance 5"'),
    (rules.DESTROY, "cmd /c 'echo x & vast^ai destroy instance 5'"),
    (rules.DESTROY, """cmd /c "wsl bash -lc 'vastai destroy instance 5'" """),  # to Unix programs ' is a quote
    (rules.DESTROY, "foreach ($i in 1, 2) { vastai destroy instance $i }"),
    (rules.DESTROY, "1, 2 | ForEach-Object { vastai destroy instance $_ }"),
    (rules.DESTROY, "if ($LASTEXITCODE -eq 0) { vastai destroy instance 5 }"),
    (rules.DESTROY, "try { scp a b } finally { vastai destroy instance 5 }"),
    (rules.DESTROY, "Invoke-Command -ScriptBlock { vastai destroy instance 5 }"),
    (rules.DESTROY, 'Write-Host "gone: $(vastai destroy instance 5)"'),
    (rules.DESTROY, "dir *.gguf && vastai destroy instance 5"),
    (rules.DESTROY, "wsl vastai destroy instance 5"),
    (rules.DESTROY, "bash -c 'vastai destroy instance 5'"),
    (rules.DESTROY, "python -m vastai destroy instance 5"),
    (rules.DESTROY, "iex \u201cvastai destroy instance 5\u201d"),
    (rules.HIDDEN, "vastai @arguments"),
    (rules.HIDDEN, "Set-Alias v vastai; v destroy instance 5"),
    (rules.UNREADABLE, "& $tool destroy instance 5"),
    (rules.UNREADABLE, "if (vastai destroy instance 5"),
    (rules.RECYCLE, "vastai recycle instance 5; Get-Date"),
    (rules.DIRECT, "Invoke-RestMethod -Method Delete -Uri https://console.vast.ai/api/v0/instances/5/"),
    (rules.LAUNCHER, "$env:ACCELERATE_USE_FSDP = 'true'"),
    (rules.LAUNCHER, "torchrun --nproc_per_node 8 train.py"),
    (rules.REMOVE, 'ssh -p 22 root@h "rm -rf /workspace/vastai_llm_training/models/output"'),
    (rules.BACKGROUND, "scp -P 22 root@h:/w/final/x.gguf C:\\models\\ &"),
    (rules.BACKGROUND, "Start-Job { scp -P 22 root@h:/w/final/x.gguf C:\\models }"),
    (rules.BACKGROUND, "Start-ThreadJob { scp -P 22 root@h:/w/final/x.gguf C:\\models }"),
    (rules.BACKGROUND, "sajb { scp -P 22 root@h:/w/final/x.gguf C:\\models }"),
    (rules.BACKGROUND, "Start-Process scp -ArgumentList '-P','22','root@h:/w/x.gguf','C:\\models'"),
    (rules.STOP, "vastai stop instance 5"),
    (ALLOW, "Start-Job { scp -P 22 root@h:/w/final/x.gguf C:\\models } | Wait-Job"),
    (ALLOW, "Start-Process scp -Wait -ArgumentList '-P','22','root@h:/w/x.gguf','C:\\models'"),
    (ALLOW, "scp -P 22 root@h:/workspace/models/output/final/*.gguf C:\\Users\\k\\models\\forex-r1-v3\\"),
    (ALLOW, 'dir "C:\\Users\\k\\models\\forex-r1-v3\\*.gguf"'),
    (ALLOW, ".\\scripts\\download_vastai_model.ps1 -InstanceId 5 -Port 22 -SshHost h"),
    (ALLOW, "Write-Output 'vastai destroy instance 5'"),
    (ALLOW, "vastai show instances | Out-String"),
)


@pytest.mark.parametrize(("rule", "line"), BASH)
def test_bash_line(rule: Rule | None, line: str) -> None:
    _judged(rule, line, Shell.BASH)


@pytest.mark.parametrize(("rule", "line"), POWERSHELL)
def test_powershell_line(rule: Rule | None, line: str) -> None:
    _judged(rule, line, Shell.POWERSHELL)


def _judged(rule: Rule | None, line: str, shell: Shell) -> None:
    judgement = judge(line, shell)
    assert judgement.decision is (rule.decision if rule else Decision.ALLOW), judgement.violations
    assert (rule is None) == (not judgement.violations)
    if rule is not None:
        assert rule in {violation.rule for violation in judgement.violations}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (rules.DESTROY, ("vastai", "destroy", "instance", "5")),
        (rules.DESTROY, ("sudo", "vastai", "destroy", "instance", "5")),
        (rules.DESTROY, ("sh", "-c", "vastai destroy instance 5")),
        (rules.STOP, ("vastai", "stop", "instance", "5")),
        (ALLOW, ("vastai", "label", "instance", "5", "vastai destroy instance 5; rm -rf /")),
        (ALLOW, ("echo", "vastai destroy instance 5")),
        (ALLOW, ()),
    ],
)
def test_arguments_are_judged_as_the_system_gets_them(rule: Rule | None, words: tuple[str, ...]) -> None:
    judgement = judge_argv(words)
    assert {violation.rule for violation in judgement.violations} == ({rule} if rule else set())


def test_a_download_that_the_agent_runs_in_the_background_is_held() -> None:
    line = "scp -P 22 root@h:/w/final/x.gguf ."
    assert judge(line).decision is Decision.ALLOW
    assert judge(line, background=True).decision is Decision.DENY


def test_of_cmd_a_file_belongs_to_its_own_call_and_behind_a_block_to_each_of_it() -> None:
    told = [(call.words, call.files) for call in cmdexe.read("a > x & b > y").calls]
    assert told == [(("a",), ("x",)), (("b",), ("y",))]
    assert [call.files for call in cmdexe.read("(a & b) > x").calls] == [("x",), ("x",)]


def test_what_is_nested_too_deep_to_be_read_is_held() -> None:
    for deep in (1, 10, 100, 400):
        line = f"echo {'(' * deep}vastai destroy instance 5{')' * deep}"
        assert judge(line, shell=Shell.POWERSHELL).decision is Decision.DENY, deep


TOO_DEEP = {
    "deeper than Python's own calls": "-" * 3000 + "1",
    "deeper than its parser": "-" * 100_000 + "1",
    "bytes of no encoding": "'\udcff'",
    "no Python": "1 +",
}


@pytest.mark.parametrize("code", TOO_DEEP.values(), ids=TOO_DEEP)
def test_python_that_cannot_be_parsed_is_held_for_what_it_names(code: str) -> None:
    assert [one for one in pycode.look(f"v.destroy_instance(5); x = {code}") if isinstance(one, Violation)]
    assert not [one for one in pycode.look(f"print(5); x = {code}") if isinstance(one, Violation)]


def test_every_rule_is_broken_by_some_line() -> None:
    broken = {rule for rule, _ in BASH + POWERSHELL if rule}
    assert broken == set(rules.RULES)
