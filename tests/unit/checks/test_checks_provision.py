"""Each check of stage provision goes red, alone, when what it guards is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.core.answers import Disk, Gpu, Gpus
from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.core.ports import InstanceStatus
from harness.core.verdict import Verdict
from harness.facts import adapter
from harness.facts.provision import PinFacts
from tests.support.facts import (
    INSTANCE,
    NOW,
    assert_only,
    changed,
    eight_h100,
    instance,
    judge,
    offer,
    provision,
    sound_job,
)

BROKEN: list[tuple[str, Mapping[str, Any], Mapping[str, str]]] = [
    ("another GPU", {"offer": offer(gpu_name="H200")}, {"offer_meets_spec": "H200", "gpus_match_offer": "not a H200"}),
    (
        "fewer GPUs",
        {"offer": offer(num_gpus=4), "gpus": Gpus(installed=True, gpus=eight_h100().gpus[:4])},
        {"offer_meets_spec": "4 GPUs, 8 were asked for"},
    ),
    ("a small disk", {"offer": offer(disk_gb=100)}, {"offer_meets_spec": "100 GB"}),
    ("an unreliable host", {"offer": offer(reliability=0.9)}, {"offer_meets_spec": "0.900"}),
    ("an old CUDA", {"offer": offer(cuda_max=11.8)}, {"offer_meets_spec": "11.8"}),
    ("no direct port", {"offer": offer(direct_ports=0)}, {"offer_meets_spec": "direct port"}),
    ("rented for an hour", {"offer": offer(duration_s=3600)}, {"offer_meets_spec": "3600 s"}),
    ("a bid", {"instance": instance(is_bid=True)}, {"offer_meets_spec": "a bid"}),
    (
        "a raised price",
        {"instance": instance(usd_per_hour=15.99), "offer": offer(usd_per_hour=14.0)},
        {"price_within_cap": "$14.00/h was agreed"},
    ),
    ("over the cap", {"instance": instance(usd_per_hour=16.5)}, {"price_within_cap": "cap is $16.00"}),
    ("two instances", {"labelled": (INSTANCE, 7002)}, {"instance_is_ours_and_single": "2 instances"}),
    ("none of ours", {"labelled": ()}, {"instance_is_ours_and_single": "0 instances"}),
    ("another one", {"labelled": (7002,)}, {"instance_is_ours_and_single": f"only {INSTANCE}"}),
    ("exited", {"instance": instance(status=InstanceStatus.EXITED)}, {"instance_running": "exited"}),
    ("about to expire", {"instance": instance(ends_at=NOW + 600)}, {"instance_running": "600 s"}),
    ("no pin", {"pin": PinFacts((), "read")}, {"host_key_pinned": "no host key"}),
    ("a pin from nowhere", {"pin": PinFacts(("k",), "")}, {"host_key_pinned": "nobody says"}),
    ("a login without a name", {"fresh_login": ""}, {"ssh_answers_fresh": "no user name"}),
    ("seven GPUs shown", {"gpus": Gpus(installed=True, gpus=eight_h100().gpus[:7])}, {"gpus_match_offer": "7 GPUs"}),
    ("a PCIe board", {"gpus": eight_h100(name="NVIDIA H100 PCIe")}, {"gpus_match_offer": "H100 PCIe"}),
    ("an old driver", {"gpus": eight_h100(driver="525.147.05")}, {"driver_supports_cuda": "525"}),
    ("an odd driver", {"gpus": eight_h100(driver="[N/A]")}, {"driver_supports_cuda": "[N/A]"}),
    ("a full disk", {"disk": Disk(150, 149, 1)}, {"disk_free_as_planned": "GB are needed"}),
    ("a thin line", {"download_bytes_per_s": 2e6}, {"bandwidth_sufficient": "2.0 MB/s"}),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_what_is_broken_is_named(changes: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    facts = changed(provision(), changes)
    assert_only(judge(Stage.PROVISION, facts), Verdict.FAIL, expected)


def test_no_gpu_at_all_fails_both_that_look_at_them() -> None:
    facts = replace(provision(), gpus=seen(Gpus(installed=False, gpus=())))
    expected = {"gpus_match_offer": "0 GPUs are shown", "driver_supports_cuda": "no GPU tells its driver"}
    assert_only(judge(Stage.PROVISION, facts), Verdict.FAIL, expected)


def test_more_gpus_than_asked_for_are_no_fault() -> None:
    shown = Gpus(installed=True, gpus=eight_h100().gpus * 2)
    assert_only(
        judge(Stage.PROVISION, replace(provision(), offer=seen(offer(num_gpus=16)), gpus=seen(shown))), Verdict.FAIL, {}
    )


def test_a_contract_without_an_end_is_no_fault() -> None:
    assert_only(judge(Stage.PROVISION, replace(provision(), instance=seen(instance(ends_at=None)))), Verdict.FAIL, {})


MODELS = [
    ("H100 SXM", "NVIDIA H100 80GB HBM3", True),
    ("H100 NVL", "NVIDIA H100 NVL", True),
    ("H100 PCIE", "NVIDIA H100 PCIe", True),
    ("H100 SXM", "NVIDIA H100 SXM", True),
    ("A100 SXM4", "NVIDIA A100-SXM4-80GB", True),
    ("A100 PCIE", "NVIDIA A100 80GB PCIe", True),
    ("Tesla V100", "Tesla V100-PCIE-16GB", True),
    ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
    ("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation", True),
    ("L40S", "NVIDIA L40S", True),
    ("H200", "NVIDIA H200", True),
    ("RTX 4090", "NVIDIA GeForce RTX 3060", False),
    ("L40", "NVIDIA L40S", False),
    ("H200", "NVIDIA GH200 480GB", False),
    ("H100 SXM", "NVIDIA H100 PCIe", False),
    ("H100 NVL", "NVIDIA H100 PCIe", False),
    ("H100 SXM", "NVIDIA A100-SXM4-80GB", False),
    ("H100 SXM", "", False),
]


def test_a_provider_that_does_not_tell_its_names_is_unknown() -> None:
    judged = judge(Stage.PROVISION, replace(provision(), gpu_names=unseen("no reply")))
    assert_only(judged, Verdict.UNKNOWN, {"offer_meets_spec": "no reply"})


def test_the_names_in_facts_of_0_1_0_are_read() -> None:
    told = {**adapter(Stage.PROVISION).dump_python(provision(), mode="json"), "gpu_names": ["H100 SXM"]}
    assert adapter(Stage.PROVISION).validate_python(told).gpu_names == seen(("H100 SXM",))


@pytest.mark.parametrize(("offered", "shown", "same"), MODELS)
def test_the_drivers_spelling_of_a_gpu_is_known(offered: str, shown: str, same: bool) -> None:
    facts = replace(
        provision(),
        gpu_names=seen((offered,)),
        offer=seen(offer(gpu_name=offered)),
        gpus=seen(Gpus(installed=True, gpus=tuple(Gpu(index, shown, "570.1") for index in range(8)))),
    )
    judged = judge(Stage.PROVISION, facts, sound_job(machine={"gpu": offered}))
    assert_only(judged, Verdict.FAIL, {} if same else {"gpus_match_offer": f"not a {offered}"})
