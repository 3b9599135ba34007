"""A careful renter in a hundred lines: it rents, trains, fetches, verifies, and destroys only what it has verified.

It knows nothing of the emulator's inside but its clock. What it cannot see it asks
again; what stays unseen it leaves alone, alive.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from harness.emulator.clock import TurnableClock

PACKAGE = "workspace/vastai_llm_training"
ARTIFACT = f"{PACKAGE}/models/output/final/model.Q8_0.gguf"
LABEL = "gsh-renter-1"

TRAINING = """cd $HOME/workspace/vastai_llm_training || exit 1
say() { echo "$1" >> training.log; sleep 0.2; }
trap '' HUP
for stage in sft dpo; do
  for step in 1 2 3; do
    [ -e $stage.$step ] || { say "[$stage] step $step/3 (33%) loss=1.0"; touch $stage.$step; }
  done
  [ -e $stage.done ] || { say "[$stage] COMPLETE 3/3 steps"; touch $stage.done; }
done
sleep 0.5
mkdir -p models/output/final
head -c 1000000 /dev/urandom > models/output/final/model.Q8_0.gguf || { say "TRAINING FAILED: no space"; exit 1; }
sha256sum < models/output/final/model.Q8_0.gguf | cut -c1-64 > digest
echo '{}' > MANIFEST.json
say "TRAINING COMPLETE"
"""

ONSTART = f"[ ! -e {PACKAGE}/train.sh ] || bash {PACKAGE}/train.sh"


class Held(Exception):
    """The renter stops here; the instance lives."""


@dataclass(slots=True)
class Renter:
    """One job. ``url`` and ``api_key`` are the service's; ``key`` is an SSH key pair's private half."""

    url: str
    api_key: str
    clock: TurnableClock
    key: Path
    home: Path
    asked: list[tuple[str, int]] = field(default_factory=list)

    def run(self) -> None:
        """The whole job; raises Held."""
        self.insist("GET", "/api/v0/users/current/")
        instance_id = self.rent()
        self.insist(
            "POST", f"/api/v0/instances/{instance_id}/ssh/", {"ssh_key": self.key.with_suffix(".pub").read_text()}
        )
        self.log_in(instance_id)
        self.ssh(instance_id, f"mkdir -p {PACKAGE} && cat > {PACKAGE}/train.sh", TRAINING)
        if (
            self.ssh(instance_id, "nvidia-smi --query-gpu=name --format=csv,noheader").split("\n")[0]
            != "NVIDIA H100 SXM"
        ):
            raise Held("other GPUs than were rented")
        self.ssh(instance_id, f"nohup setsid bash {PACKAGE}/train.sh >/dev/null 2>&1 </dev/null &")
        self.wait_for_the_end(instance_id)
        time.sleep(0.5)  # what befalls a finished artifact befalls it now
        self.fetch(instance_id)
        self.destroy(instance_id)

    def rent(self) -> int:
        """One instance with our label, asked for once an offer and looked for by its label."""
        query = {"gpu_name": {"eq": "H100 SXM"}, "num_gpus": {"gte": "8"}, "order": [["dph_total", "asc"]]}
        for offer in self.insist("POST", "/api/v0/bundles/", {**query, "verified": {"eq": True}})["offers"]:
            body = {
                "image": "pytorch",
                "disk": 20,
                "label": LABEL,
                "onstart": ONSTART,
                "runtype": "ssh_direc ssh_proxy",
            }
            self.ask("PUT", f"/api/v0/asks/{offer['id']}/", body)
            for _ in range(12):
                found = [row["id"] for row in self.listing() if row["label"] == LABEL]
                if len(found) == 1:
                    return int(found[0])
                self.clock.turn(1)
        raise Held("nothing could be rented")

    def log_in(self, instance_id: int) -> None:
        """Wait until the box answers."""
        for _ in range(20):
            if self.ssh(instance_id, "echo in") == "in\n":
                return
            self.clock.turn(1)
            time.sleep(0.1)  # processes start in real time
        raise Held("the box does not answer")

    def wait_for_the_end(self, instance_id: int) -> None:
        """Watch the log; a training that cannot be seen for long is left alone."""
        blind = 0
        while blind < 8:
            log = self.ssh(instance_id, f"cat {PACKAGE}/training.log")
            if "TRAINING FAILED" in log:
                raise Held("the training failed")
            if "TRAINING COMPLETE" in log:
                return
            blind = 0 if log else blind + 1
            time.sleep(0.2)
        raise Held("the training cannot be seen any more")

    def fetch(self, instance_id: int) -> None:
        """Bring the artifact home; its digest was recorded by the training."""
        digest = self.ssh(instance_id, f"cat {PACKAGE}/digest").strip()
        for _ in range(4):
            data = self.ssh_bytes(instance_id, f"cat {ARTIFACT}")
            if hashlib.sha256(data).hexdigest() == digest:
                self.home.write_bytes(data)
                return
        raise Held("what arrives is not what was trained")

    def destroy(self, instance_id: int) -> None:
        """Ask until a whole listing lacks it twice."""
        for _ in range(20):
            self.ask("DELETE", f"/api/v0/instances/{instance_id}/", {})
            if all(instance_id not in {row["id"] for row in self.listing()} for _ in range(3)):
                return
            self.clock.turn(1)
        raise Held("the instance does not go away")

    def listing(self) -> list[dict[str, Any]]:
        """All instances; an answer that is not whole is asked for again."""
        for _ in range(8):
            answer = self.ask("GET", "/api/v1/instances/?limit=25")
            if isinstance(answer, dict) and isinstance(answer.get("instances"), list):
                rows: list[dict[str, Any]] = answer["instances"]
                if len(rows) == answer.get("total_instances"):
                    return rows
            self.clock.turn(1)
        raise Held("the instances cannot be listed")

    def insist(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask until there is an object."""
        for _ in range(8):
            answer = self.ask(method, path, body)
            if isinstance(answer, dict):
                return answer
            self.clock.turn(1)
        raise Held(f"{method} {path} is not answered")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask, again only when told that it was too soon; None for anything but a 200 with JSON."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        for _ in range(5):
            try:
                response = requests.request(method, self.url + path, headers=headers, json=body, timeout=20)
                self.asked.append((f"{method} {path}", response.status_code))
                if response.status_code != 429:
                    return response.json() if response.status_code == 200 else None
                self.clock.turn(5)
            except (requests.RequestException, json.JSONDecodeError):
                return None
        return None

    def ssh(self, instance_id: int, command: str, stdin: str = "") -> str:
        """What a command prints; nothing when it could not be asked."""
        return self.ssh_bytes(instance_id, command, stdin.encode()).decode("utf-8", "replace")

    def ssh_bytes(self, instance_id: int, command: str, stdin: bytes = b"") -> bytes:
        """What a command prints, over a fresh connection by a route that answers, to the host pinned first."""
        row = (self.ask("GET", f"/api/v0/instances/{instance_id}/?owner=me") or {}).get("instances") or {}
        direct = [entry["HostPort"] for entry in row.get("ports", {}).get("22/tcp", [])]
        for port in [*direct, *([str(row["ssh_port"])] if direct else [])]:
            pinned = ["-o", "HostKeyAlias=box", "-o", f"UserKnownHostsFile={self.home}.known_hosts"]
            policy = ["-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
            line = ["ssh", "-F", "none", "-i", str(self.key), *pinned, *policy, "-p", port, "root@127.0.0.1", command]
            try:
                done = subprocess.run(line, input=stdin, capture_output=True, timeout=20, check=False)
            except subprocess.TimeoutExpired:
                continue
            if done.returncode == 0:
                return done.stdout
        return b""
