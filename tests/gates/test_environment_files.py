"""pyproject.toml, constraints.txt, environment.yml and CITATION.cff say the same."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from project import ROOT
from setup_env import PROFILES, SUPPORTED

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
DECLARED = [Requirement(text) for text in [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]]


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    parsed = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in LINES]
    assert all(parsed), "constraints.txt holds exact pins only"
    return {canonicalize_name(m[1]): Version(m[2]) for m in parsed if m}


def test_every_declared_package_is_pinned_within_its_range(pins: dict[str, Version]) -> None:
    for requirement in DECLARED:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in constraints.txt"
        assert pins[name] in requirement.specifier, f"{name}: {pins[name]} is outside its range"


def test_the_pins_are_sorted_and_unique(pins: dict[str, Version]) -> None:
    assert len(pins) == len(LINES)
    assert sorted(LINES, key=str.lower) == LINES


def test_torch_is_pinned_for_us_and_never_for_colab() -> None:
    torch = next(r for r in DECLARED if r.name == "torch")
    assert {clause.operator for clause in torch.specifier} == {">="}


def test_the_conda_environment_installs_the_same() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, nested = conda["dependencies"]
    assert conda["name"] == PROJECT["name"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert nested["pip"] == [
        "--constraint constraints.txt",
        f"--editable .[{','.join(PROFILES['all'])}]",
    ]


def test_make_installs_every_extra() -> None:
    assert sorted(PROFILES["all"]) == sorted(EXTRAS)


def test_the_supported_pythons_are_those_declared() -> None:
    declared = SpecifierSet(PROJECT["requires-python"])
    minors = [(3, minor) for minor in range(20) if f"3.{minor}.0" in declared]
    assert tuple(minors) == SUPPORTED
    classifiers = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c}
    assert classifiers == {f"{major}.{minor}" for major, minor in SUPPORTED}


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
