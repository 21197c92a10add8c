"""The README and docs/ are true: their links, their Python, and what they say of files, settings and dependencies."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from benefits_service.commands.serve import serve
from documents import PAGES, README, ROOT, Block, Page, page

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"^(\w+):.* ## ", MAKEFILE, re.MULTILINE)
EXAMPLES = [
    pytest.param(block, id=f"{written.name}:{number}")
    for written in PAGES
    for number, block in enumerate(written.blocks("python"), 1)
]


def broken_links(written: Page) -> list[str]:
    """Return the links of a page that lead to no file, or to no heading of it. Other sites are not visited."""
    broken = []
    for link in written.links():
        target = urlsplit(link)
        if target.scheme in {"http", "https"}:
            continue
        path = written.path.parent / target.path if target.path else written.path
        if not path.exists() or (target.fragment and target.fragment not in Page(path).anchors()):
            broken.append(link)
    return broken


def missing_files(written: Page) -> list[str]:
    """Return the files that a page names and that do not exist; those of a package without ``src/``."""
    named = [
        code for code in written.code() if re.fullmatch(r"(benefits_\w+|tests|docs|\.ci)/[\w./]*\w", code)
    ]
    return [code for code in named if not (ROOT / code).exists() and not (ROOT / "src" / code).exists()]


@pytest.mark.parametrize("written", PAGES, ids=lambda written: written.name)
class TestPages:
    def test_links_lead_to_files_and_headings(self, written: Page) -> None:
        assert broken_links(written) == []

    def test_named_files_exist(self, written: Page) -> None:
        assert missing_files(written) == []

    def test_named_make_targets_exist(self, written: Page) -> None:
        assert set(re.findall(r"`make (\w+)", written.prose)) <= set(TARGETS)

    def test_json_and_toml_are_valid(self, written: Page) -> None:
        for block in written.blocks("json"):
            if "..." not in block.text:
                json.loads(block.text if block.text.startswith("{") else f"{{{block.text}}}")
        for block in written.blocks("toml"):
            tomllib.loads(block.text)


def test_a_broken_link_or_name_would_be_found(tmp_path: Path) -> None:
    written = Page(tmp_path / "page.md")
    written.path.write_text(
        "# One page\n[a](page.md#one-page) [b](none.md) [c](page.md#two) [d](#one-page) [e](#two)"
        " `benefits_core/model.py` `benefits_core/none.py`\n```sh\n[f](none.md)\n```\n"
    )

    assert broken_links(written) == ["none.md", "page.md#two", "#two"]
    assert missing_files(written) == ["benefits_core/none.py"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_python_example_runs(example: Block, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", example.text], cwd=tmp_path, check=True)


def test_the_readme_is_short() -> None:
    assert len(README.text.splitlines()) <= 130


def test_the_first_python_example_is_a_whole_program_of_less_than_20_lines_and_needs_the_core_alone() -> None:
    [example] = README.blocks("python")

    assert len(example.text.splitlines()) < 20
    assert set(re.findall(r"benefits_\w+", example.text)) == {"benefits_core"}


def test_the_readme_names_every_dependency_and_the_extra_that_installs_it() -> None:
    named = {
        name: cells[1].strip("`") if len(cells) == 3 else "dev"
        for cells in [row for table in README.tables("Dependencies") for row in table]
        for name in re.split(r", (?:and )?", cells[0])
    }
    project = PROJECT["project"]
    extras = {"none": project["dependencies"], **project["optional-dependencies"]}
    groups = {
        "dev": [requirement for group in PROJECT["dependency-groups"].values() for requirement in group]
    }

    assert {name: extra for name, extra in named.items() if not name.startswith("the program ")} == {
        re.split(r"[^\w.-]", requirement)[0]: extra
        for extra, requirements in (extras | groups).items()
        for requirement in requirements
        if not requirement.startswith("benefits[")
    }


def test_the_settings_are_the_options_of_serve() -> None:
    documented = {
        option.strip("`"): (variable.strip("`"), default.strip("`"))
        for option, variable, default, _ in page("docs/running.md").table("Settings")
    }

    assert documented == {
        option.opts[0]: (option.envvar, shown_default(option))
        for option in serve.params
        if isinstance(option, click.Option) and option.envvar is not None
    }


def shown_default(option: click.Option) -> str:
    """Return the default of an option as the page shows it."""
    default = option.to_info_dict()["default"]
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag:
        return "off"
    return " ".join(default) if option.multiple else str(default or "none")


def test_the_makefile_is_documented() -> None:
    documented = [
        command.strip("`").removeprefix("make ") for command, _ in page("CONTRIBUTING.md").table("Commands")
    ]

    assert documented == TARGETS


@pytest.mark.parametrize(
    "heading", ["One order, from the socket to the disk and back", "One order over PostgreSQL"]
)
def test_the_walk_through_names_functions_of_its_files(heading: str) -> None:
    steps = page("docs/architecture.md").table(heading)

    assert len(steps) < 10
    for _, file, functions, _ in steps:
        source = (ROOT / "src" / file.strip("`")).read_text(encoding="utf-8")
        for name in functions.replace("`", "").split(", "):
            assert re.search(rf"^\s*(async )?(def|class) {name}\b", source, re.MULTILINE), (file, name)


def test_the_latest_change_is_that_of_this_version() -> None:
    versions = re.findall(r"^## \[(\d[\d.]*)\] - \d{4}-\d\d-\d\d$", page("CHANGELOG.md").text, re.MULTILINE)

    assert versions[0] == PROJECT["project"]["version"]
