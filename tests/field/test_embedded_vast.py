"""The embedded Vast.ai with command lines of the official client: what people get, or the name of what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.emulator.running import Emulator, running
from tests.field.case import field_case
from tests.support.emulator_kit import ask, create_request, scenario
from tests.support.official_client import OfficialClient, Said, official_client

pytest.importorskip("vastai")

CLI = "vast-ai/vast-cli"
Vastai = Callable[..., Said]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfficialClient]:
    folder = tmp_path_factory.mktemp("client")
    with (
        running(folder / "first", scenario=scenario(isolation="none")) as any_service,
        official_client(any_service.url, folder) as found,
    ):
        yield found


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as found:
        yield found


@pytest.fixture
def vastai(client: OfficialClient, emulator: Emulator) -> Vastai:
    return lambda *words: client(emulator.url, emulator.key, *words)


SNAKEMAKE = "own: snakemake-executor-plugin-vastai sends datacenter=true by default"
HELP = f"{CLI}: help of search offers"

SEARCHES = [
    field_case("a data centre", SNAKEMAKE, "datacenter=true", 9),
    field_case(
        "SkyPilot's own",
        "skypilot-org/skypilot: sky/provision/vast/utils.py",
        'chunked=true georegion=true geolocation="SE" disk_space>=100 num_gpus=8 gpu_name="H100 SXM" cpu_ram>="755.0" '
        "datacenter=true hosting_type>=1",
        1,
    ),
    field_case("no data centre", SNAKEMAKE, "datacenter=false", 0),
    field_case("avx", HELP, "has_avx=true", 9),
    field_case("avx as a number", HELP, "has_avx=1", 9),
    field_case("no avx", HELP, "has_avx!=true", 0),
    field_case("countries", HELP, "geolocation in [SE,US]", 7),
    field_case("not these countries", HELP, "geolocation notin [SE,US]", 2),
    field_case("one country", HELP, "geolocation=CZ", 1),
    field_case("not one country", HELP, "geolocation!=CZ", 8),
    field_case("the driver, as a version", HELP, "driver_version >= 535.86.05", 9),
    field_case("a driver above all", HELP, "driver_version > 570.124.06", 0),
    field_case("a driver below, whose first digit is the greater", "own: text order", "driver_version >= 1000.1.1", 0),
    field_case("this driver", HELP, "driver_version = 570.124.06", 9),
    field_case("the driver's first number", HELP, "driver_version >= 535", 9),
    field_case("H100 alone is no board's name", "own: exact names", "gpu_name=H100", 0),
    field_case("the SXM board", HELP, "gpu_name=H100_SXM", 3),
    field_case("the SXM board, quoted", HELP, 'gpu_name="H100 SXM"', 3),
    field_case("the NVL board", HELP, "gpu_name=H100_NVL", 1),
    field_case("several boards", HELP, "gpu_name in [H100_SXM,H200]", 5),
    field_case("memory in gigabytes", HELP, "gpu_ram>=100", 2),
    field_case("days", HELP, "duration>=29", 9),
    field_case("more days than any", HELP, "duration>31", 0),
    field_case("reliability", HELP, "reliability>0.99", 7),
    field_case("price", HELP, "dph<1.0", 2),
    field_case("cuda under its old name", HELP, "cuda_vers>=12.4", 9),
    field_case("ubuntu", HELP, "ubuntu_version>=20.04", 9),
    field_case("a fixed address", HELP, "static_ip=true", 9),
    field_case("open ports", HELP, "direct_port_count>2", 8),
    field_case("also the unverified", HELP, "verified=any", 10),
    field_case("no virtual machines", HELP, "vms_enabled=false", 9),
    field_case("a cluster", HELP, "cluster_id!=None", 0),
]


@pytest.mark.parametrize(("query", "found"), SEARCHES)
def test_a_search_finds(vastai: Vastai, query: str, found: int) -> None:
    said = vastai("search", "offers", query, "--raw")
    assert len(said.json()) == found, said.text


@pytest.mark.parametrize(
    ("words", "named"),
    [
        field_case("a field that no offer has", "own: misspelt", ("gpu_nam=H100_SXM",), "gpu_nam"),
        field_case("an order by no field", "own: misspelt", ("num_gpus>=1", "-o", "prize"), "prize"),
        field_case("a driver compared with nothing", "own: null", ("driver_version>=null",), "needs a value"),
        field_case("a word that is no number", "own: misspelt", ("num_gpus>=eight",), "not a number"),
    ],
)
def test_a_search_that_cannot_be_answered_says_why(vastai: Vastai, words: tuple[str, ...], named: str) -> None:
    assert named in vastai("search", "offers", *words, "--raw").text


def test_every_field_that_the_client_lists_can_be_searched_and_sorted_by(emulator: Emulator) -> None:
    from vastai.api.query import offers_fields, vol_offers_fields

    for path, fields in (("bundles", offers_fields), ("volumes/search", vol_offers_fields)):
        for field in fields:
            body = {field: {"neq": "nothing"}, "order": [[field, "desc"]]}
            answer = ask(emulator, "POST", f"/api/v0/{path}/", json=body)
            assert (answer.status_code, len(answer.json().get("offers", ()))) == (200, 10), (field, answer.text)


@pytest.mark.parametrize(
    ("order", "first"),
    [
        field_case("the cheapest", HELP, "dph", 0.36),
        field_case("the dearest", HELP, "dph-", 21.4),
        field_case("boards, then the dearest", HELP, "num_gpus-,dph-", 21.4),
        field_case("the default: most work for the money", HELP, "score-", 0.36),
    ],
)
def test_a_search_is_sorted(vastai: Vastai, order: str, first: float) -> None:
    rows = vastai("search", "offers", "num_gpus>=1", "-o", order, "--raw").json()
    assert rows[0]["dph_base"] == first


NOT_EMULATED = [
    field_case("execute on a schedule", f"{CLI}: --schedule", "show scheduled-jobs", "commands/schedule_job"),
    field_case("a snapshot", f"{CLI}: take snapshot", "take snapshot {id} --repo r --docker_login_user u "
               "--docker_login_pass p --container_registry docker.io", "take_snapshot"),
    field_case("a cloud copy", f"{CLI}: cloud copy", "cloud copy --src a --dst b --instance {id} --connection 1 "
               "--transfer x", "commands/rclone"),
    field_case("an instance's update", f"{CLI}: update instance", "update instance {id} --image x", "update_template"),
    field_case("prepaid", f"{CLI}: prepay instance", "prepay instance {id} 5", "instances/prepay"),
    field_case("network volumes", f"{CLI}: search network-volumes", "search network-volumes", "network_volumes/search"),
    field_case("machines of a host", f"{CLI}: show machines", "show machines", "api/v0/machines"),
    field_case("cloud connections", f"{CLI}: show connections", "show connections", "cloud_integrations"),
    field_case("a team", f"{CLI}: show members", "show members", "team"),
    field_case("serverless", f"{CLI}: show endpoints", "show endpoints", "endptjobs"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "route"), NOT_EMULATED)
def test_what_is_not_emulated_says_its_route(emulator: Emulator, vastai: Vastai, line: str, route: str) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    said = vastai(*line.format(id=rented.id).split()).text
    assert "501" in said, said
    assert route in said
    assert "is not emulated" in said
    assert list(emulator.world.rentals()) == [rented.id]


def test_reboot_on_a_schedule_says_that_schedules_are_not_emulated(emulator: Emulator, vastai: Vastai) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    when = ("--start_date", "2026-01-01 10:00:00 AM", "--end_date", "2030-01-01 10:00:00 AM")
    said = vastai("reboot", "instance", str(rented.id), "--schedule", "DAILY", "--day", "*", *when).text
    assert "/commands/schedule_job/ is not emulated" in said


def test_launch_takes_the_first_offer_that_fits(emulator: Emulator, vastai: Vastai) -> None:
    said = vastai("launch", "instance", "-g", "H100_SXM", "-n", "8", "-i", "pytorch/pytorch", "-d", "40", "-r",
                  "North_America", "-o", "dph", "--ssh", "--direct", "--label", "launched", "--raw")  # fmt: skip
    assert "launched successfully" in said.text or said.json()["success"], said.text
    (rental,) = emulator.world.visible()
    assert (rental.ask.geolocation, rental.ask.num_gpus, rental.disk_gb, rental.label) == (
        "Texas, US",
        8,
        40,
        "launched",
    )


def test_launch_without_a_fitting_offer_rents_nothing(emulator: Emulator, vastai: Vastai) -> None:
    said = vastai("launch", "instance", "-g", "H100_NVL", "-n", "8", "-i", "pytorch/pytorch")
    assert "404" in said.text
    assert not emulator.world.rentals()


def test_templates_are_made_found_changed_rented_and_deleted(emulator: Emulator, vastai: Vastai) -> None:
    assert "PyTorch" in vastai("search", "templates", "recommended=true").text
    made = vastai("create", "template", "--name", "mine", "--image", "pytorch/pytorch", "--image_tag", "2.6.0",
                  "--env", "-e HF_HOME=/workspace/hf -e A=1 -p 8080:8080", "--onstart-cmd", "echo up", "--ssh",
                  "--direct", "--disk_space", "60", "--search_params", "num_gpus=8")  # fmt: skip
    (template,) = emulator.world.state.templates.values()
    assert template.hash_id in made.text, made.text
    found = json.loads(vastai("search", "templates", f"hash_id={template.hash_id}").out)
    assert [row["name"] for row in found] == ["mine"]
    rented = vastai("create", "instance", "7100001", "--template_hash", template.hash_id, "--disk", "30", "--env",
                    "-e A=2", "--raw").json()["new_contract"]  # fmt: skip
    rental = emulator.world.rental(rented)
    assert (rental.image, rental.onstart, rental.runtype) == ("pytorch/pytorch:2.6.0", "echo up", "ssh_direc ssh_proxy")
    assert rental.env == {"HF_HOME": "/workspace/hf", "A": "2", "-p 8080:8080": "1"}
    assert vastai("show", "instance", str(rented), "--raw").json()["template_hash_id"] == template.hash_id
    changed = vastai("update", "template", template.hash_id, "--name", "other", "--image", "x", "--ssh").text
    (other,) = emulator.world.state.templates.values()
    assert other.hash_id != template.hash_id
    assert other.hash_id in changed
    vastai("delete", "template", "--hash-id", other.hash_id)
    assert not emulator.world.state.templates
    assert "404" in vastai("create", "instance", "7100002", "--template_hash", template.hash_id).text
    assert list(emulator.world.rentals()) == [rented]


def test_variables_of_the_account_reach_the_container(emulator: Emulator, vastai: Vastai) -> None:
    assert "added" in vastai("create", "env-var", "hf_token", "hf_secret").text
    assert "HF_TOKEN" in vastai("show", "env-vars").text
    assert "hf_secret" not in vastai("show", "env-vars").text
    assert "hf_secret" in vastai("show", "env-vars", "-s").text
    assert "400" in vastai("create", "env-var", "HF_TOKEN", "again").text
    assert "updated" in vastai("update", "env-var", "HF_TOKEN", "hf_other").text
    rental = emulator.world.create(7_100_001, create_request(onstart='echo "token=$HF_TOKEN" > workspace/seen'))
    emulator.settle()
    seen = emulator.world.state_dir / "boxes" / str(rental.id) / "root/workspace/seen"
    deadline = time.monotonic() + 120
    while not (seen.exists() and seen.read_text()):
        assert time.monotonic() < deadline, "the onstart script has written nothing"
        time.sleep(0.05)
    assert seen.read_text() == "token=hf_other\n"
    assert "deleted" in vastai("delete", "env-var", "HF_TOKEN").text
    assert "No environment variables" in vastai("show", "env-vars").text


def test_a_bulk_destroy_destroys_what_is_there_and_names_the_rest(emulator: Emulator, vastai: Vastai) -> None:
    kept, gone = (emulator.world.create(offer, create_request()).id for offer in (7_100_001, 7_100_002))
    said = vastai("destroy", "instances", str(gone), "4711", "-y")
    assert list(emulator.world.rentals()) == [kept]
    assert re.search(r"not found: \[4711\]", said.text), said.text
    assert "404" in vastai("destroy", "instances", "4711", "4712", "-y").text


def test_volumes_are_found_rented_and_shown(vastai: Vastai) -> None:
    offers = vastai("search", "volumes", "disk_space>100 geolocation in [SE]", "-o", "storage_cost", "--raw").json()
    assert offers
    assert "Sweden" in vastai("search", "volumes", "disk_space>100").text
    vastai("create", "volume", str(offers[0]["id"]), "-s", "20")
    (volume,) = vastai("show", "volumes", "--raw").json()
    assert volume["disk_space"] == 20


def test_deposit_and_backups_are_told(emulator: Emulator, vastai: Vastai) -> None:
    rental = emulator.world.create(7_100_001, create_request())
    assert vastai("show", "deposit", str(rental.id)).json()["refundable_deposit"] == 0
    assert "404" in vastai("show", "deposit", "4711").text
    assert vastai("show", "instance-backups", "--raw").json() == []
    assert "not emulated" in vastai("show", "instance-backup-files", str(rental.id)).text


@pytest.mark.parametrize(("verb", "price", "left"), [("accept", 99.0, 0), ("reject", 15.92, 0)])
def test_a_price_increase_waits_for_its_answer(
    tmp_path: Path, client: OfficialClient, verb: str, price: float, left: int
) -> None:
    offered = scenario(isolation="none", life=[{"do": "price", "usd": 99.0, "days": 60}])
    with running(tmp_path / "state", scenario=offered) as emulator:
        rental = emulator.world.create(7_100_001, create_request())
        emulator.settle()
        said = client(emulator.url, emulator.key, "show", "pending-price-increases").text
        assert str(rental.id) in said, said
        client(emulator.url, emulator.key, verb, "price-increase", str(rental.id), "--yes")
        now = emulator.world.rental(rental.id)
        assert (now.price_per_hour, now.end_at > rental.end_at) == (price, verb == "accept")
        waiting = client(emulator.url, emulator.key, "show", "pending-price-increases", "--raw").json()
        assert len(waiting["pending_price_increases"]) == left


def test_the_table_holds_the_lines_that_it_names() -> None:
    cases: list[Any] = [*SEARCHES, *NOT_EMULATED]
    assert len({case.id for case in cases}) == len(cases)
