"""Installs ``checks``, ``examples`` and ``training_pkg`` inside the package, though they stand beside it here."""

from setuptools import find_namespace_packages, setup

BESIDE = ("checks", "checks.*", "examples", "examples.*", "training_pkg", "training_pkg.configs", "training_pkg.forex")

setup(
    packages=[
        *find_namespace_packages(include=["harness", "harness.*"]),
        *(f"harness.{name}" for name in find_namespace_packages(include=BESIDE)),
    ],
    package_dir={f"harness.{name}": name for name in ("checks", "examples", "examples.*", "training_pkg")},
)
