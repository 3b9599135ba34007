"""What the name of an image promises, in the forms that people rent with."""

from __future__ import annotations

import pytest

from harness.job import image, profiles

NEEDS = profiles.tables("forex-r1-v3")["package"]["needs"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel", {"torch": "2.1.0", "cuda": "12.1", "python": "3.10"}),
        ("pytorch/pytorch:2.7.1-cuda12.6-cudnn9-devel", {"torch": "2.7.1", "cuda": "12.6"}),
        ("docker.io/vastai/pytorch:2.5.1-cuda-12.4.1", {"torch": "2.5.1", "cuda": "12.4"}),
        ("vastai/pytorch:cuda-12.8.1-auto", {"cuda": "12.8"}),
        ("runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel", {"torch": "2.1.0", "python": "3.10", "cuda": "11.8"}),
        ("python:3.9-slim", {"python": "3.9"}),
        ("nvcr.io/nvidia/pytorch:24.05-py3", {}),
        ("localhost:5000/team/train", {}),
        ("pytorch/pytorch", {}),
        ("pytorch/pytorch:latest", {}),
        ("pytorch/pytorch:2.4.0@sha256:" + "0" * 64, {"torch": "2.4.0"}),
        ("unsloth/unsloth:2025.9", {}),
    ],
)
def test_what_a_name_promises(name: str, told: dict[str, str]) -> None:
    assert image.promised(name) == told


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("pytorch/pytorch:2.1.0-cuda12.1-cudnn8-devel", ("python 3.10, needed 3.11", "torch 2.1.0, needed 2.6")),
        ("pytorch/pytorch:2.5.1-cuda12.4-cudnn9-devel", ("torch 2.5.1, needed 2.6",)),
        ("pytorch/pytorch:2.10.0-cuda13.0-cudnn9-devel", ()),
        ("python:3.9-slim", ("python 3.9, needed 3.11",)),
        ("my/own:1", ()),
    ],
)
def test_the_first_users_package_on_an_image(name: str, old: tuple[str, ...]) -> None:
    assert image.too_old(name, NEEDS) == old


def test_the_profiles_own_image_fits_its_package() -> None:
    assert image.too_old(profiles.tables("forex-r1-v3")["machine"]["image"], NEEDS) == ()
