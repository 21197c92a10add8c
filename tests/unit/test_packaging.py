"""Which packages each of ours may import, and what an import of the core loads."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = sorted(path.name for path in (ROOT / "src").iterdir())


def normal(distribution: str) -> str:
    """Return the name of a distribution in its normal form."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


# The extra for what a package imports only when it is asked for.
ON_DEMAND = {"benefits_service": "chart"}


def required(extra: str) -> set[str]:
    """Return the distributions that pyproject.toml names for an extra, and for every installation."""
    names: set[str] = set()
    for requirement in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"].get(extra, [])]:
        if own := re.fullmatch(r"benefits\[([\w,]+)\]", requirement):
            names.update(*map(required, own[1].split(",")))
        else:
            names.add(normal(re.split(r"[^\w.-]", requirement)[0]))
    return names


def imported(package: str) -> set[str]:
    """Return the names of the other packages that a package imports, without the standard library."""
    graph = grimp.build_graph(
        package, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )
    names = {
        name.partition(".")[0]
        for module in graph.modules
        if not graph.is_module_squashed(module)
        for name in graph.find_modules_directly_imported_by(module)
    }
    return names - {package} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_the_distributions_that_its_extra_names(package: str) -> None:
    """The extra of ``benefits_http`` is ``http``; the core has none. Import-linter checks the imports of our own."""
    allowed = required(package.removeprefix("benefits_")) | required(ON_DEMAND.get(package, ""))
    distributions = packages_distributions()

    unnamed = {
        name
        for name in imported(package) - set(PACKAGES)
        if not allowed & set(map(normal, distributions.get(name, [])))
    }

    assert unnamed == set()


def test_the_dockerfile_names_every_package() -> None:
    """It installs what they need before it copies them, so that a change of the source needs no installation."""
    loops = re.findall(r"for package in ([\w ]+);", (ROOT / "Dockerfile").read_text(encoding="utf-8"))

    assert len(loops) == 2
    for names in loops:
        assert [f"benefits_{name}" for name in names.split()] == PACKAGES


def test_the_core_imports_attrs_and_nothing_else() -> None:
    assert imported("benefits_core") == {"attrs"}


def test_importing_the_core_loads_no_framework_and_no_database() -> None:
    program = "import sys, benefits_core; print(sorted({'flask', 'sqlite3', 'msgspec', 'click'} & set(sys.modules)))"

    # Without the variables of this process: those of coverage would make the program import sqlite3.
    assert subprocess.check_output([sys.executable, "-c", program], env={}, text=True) == "[]\n"
