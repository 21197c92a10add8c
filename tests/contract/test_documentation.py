"""The shell commands of the README and of docs/ do what the pages show; their tables of the API list what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from benefits_service.databases import database_at
from contract.running import SEED, Service, environment, running, seed, start
from documents import PAGES, ROOT, Page, page
from postgres_schemas import schema_url
from unit.command import validate
from waiting import wait_for

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "__main__.py").read_text(encoding="utf-8")
POSTGRES_COMMANDS = {"createdb", "createuser", "pg_dump", "pg_restore"}
EXAMPLE_URL = "postgresql://benefits@db.example.com/benefits"


class Shell:
    """Runs the commands of a page in one folder, beside a service that serves its ``benefits.db``.

    Commands that install something, run for long or need another machine are not run: their targets, extras, options and files
    must exist. For the PostgreSQL databases of the pages stands one of the server of the tests.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._service: Service | None = None
        self._database = "benefits.db"
        shutil.copy(SEED, folder)
        (folder / "build").mkdir()
        (folder / "build" / "index.html").touch()

    def run(self, line: str) -> str:
        """Run a command, and return its output."""
        words = line.split()
        if words[:2] in (["benefits", "serve"], ["benefits", "copy"]):
            validate(line)
        elif words[0] == "export" and words[1].startswith("BENEFITS_DATABASE="):
            self.stop()
            self._service, self._database = None, schema_url(self._folder)
        elif words[0] == "make":
            assert f"\n{words[1].replace('.venv', '$(VENV)')}: " in MAKEFILE
        elif words[0] in {"docker", "export"} or re.search("deploy/passwords|localhost:(8080|4001)", line):
            validate_for_containers(line)
        elif words[0].endswith("pip"):
            validate_installation(line)
        elif "pytest" in words:
            assert all((ROOT / word).exists() for word in words[words.index("pytest") + 1 :])
        elif "benchmarks" in words:
            assert all(f'"{word}"' in BENCHMARKS for word in words[words.index("benchmarks") + 1 :])
        elif words[0] == "systemctl":
            {"systemctl stop benefits": self.stop, "systemctl start benefits": self._start}[line]()
        elif line != "python3 -m venv /opt/benefits" and words[0] not in POSTGRES_COMMANDS:
            assert words[0] in {"benefits", "curl", "cp", "mkdir", "mv", "printf"}, (
                f"this test can't run {line!r}"
            )
            return self._bash(line)
        return ""

    def _bash(self, line: str) -> str:
        if self._service is None:
            self._service = self._start()
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LOGNAME": "maria",
            "BENEFITS_DATABASE": self._database,
        }
        line = re.sub(r"postgresql://\S+", '"$BENEFITS_DATABASE"', line)
        done = subprocess.run(
            ["/usr/bin/env", "bash", "-c", line.replace("localhost:4000", f"127.0.0.1:{self._service.port}")],
            cwd=self._folder,
            env=environment() | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if self._database == "benefits.db":
            return done.stdout
        return done.stdout.replace(database_at(self._database).name, EXAMPLE_URL)

    def _start(self) -> Service:
        seed(self._database)
        self._service = start(self._database, folder=self._folder)
        self._service.wait_until_it_answers()
        return self._service

    def stop(self) -> None:
        """Stop the service, if it runs."""
        if self._service is not None and self._service.process.poll() is None:
            assert self._service.stop() == 0


def validate_installation(line: str) -> None:
    """Assert that the extras exist that a line installs."""
    extras = re.fullmatch(r"\S*pip install '\.\[([\w,]+)\]'", line)
    assert extras is not None
    assert all(f"\n{extra} = [" in PYPROJECT for extra in extras[1].split(","))


def validate_for_containers(line: str) -> None:
    """Assert that what a line needs exists that needs Docker: what it runs in a container, and the files that it names."""
    if file := re.search(r"(?<=COMPOSE_FILE=)\S+", line):
        assert all((ROOT / name).exists() for name in file[0].split(":"))
    if target := re.search(r" make (\w+)$", line):
        assert f"\n{target[1]}: " in MAKEFILE
    if command := re.search(r"benefits (seed|backup|check|serve)\b[^<]*", line):
        validate(command[0])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Return a shell."""
    monkeypatch.chdir(tmp_path)
    opened = Shell(tmp_path)
    yield opened
    opened.stop()


def follow(written: Page, shell: Shell) -> None:
    """Run the shell commands of a page in turn, and compare their output with that on the page; ``...`` is any text."""
    output = ""
    for block in written.blocks():
        if block.language == "sh":
            commands = block.text.replace("\\\n", "").splitlines()
            output = "".join(map(shell.run, commands))
        elif block.output and output:
            expected = ".*".join(map(re.escape, block.text.strip().split("...")))
            assert re.fullmatch(expected, output.strip()), f"{output}is not\n{block.text}"


@pytest.mark.skipif(shutil.which("curl") is None and "CI" not in os.environ, reason="curl is not installed")
class TestCommands:
    @pytest.mark.parametrize(
        "written", [written for written in PAGES if written.blocks("sh")], ids=lambda written: written.name
    )
    def test_the_commands_of_a_page_do_what_it_shows(self, written: Page, shell: Shell) -> None:
        follow(written, shell)

    @pytest.mark.parametrize(
        "text",
        [
            '```sh\ncurl http://localhost:4000/healthz\n```\n\n```json\n{"status":"bad"}\n```\n',
            "```sh\nbenefits check\n```\n\n```text\nbenefits.db is sound: ... users, 3 orders.\n```\n",
            "```sh\ncurl --fail http://localhost:4000/nowhere\n```\n",
            "```sh\nbenefits restore\n```\n",
            "```sh\nbenefits serve --prot 4000\n```\n",
            "```sh\nmake haste\n```\n",
            "```sh\npip install '.[haste]'\n```\n",
            "```sh\n.venv/bin/python -m pytest tests/none\n```\n",
            "```sh\n.venv/bin/python -m benchmarks none\n```\n",
            "```sh\nrm benefits.db\n```\n",
        ],
    )
    def test_a_page_that_is_not_true_fails(self, text: str, shell: Shell, tmp_path: Path) -> None:
        written = Page(tmp_path / "page.md")
        written.path.write_text(text)

        with pytest.raises((AssertionError, click.UsageError)):
            follow(written, shell)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service behind an identity, which has all endpoints and errors."""
    database = tmp_path_factory.mktemp("service") / "benefits.db"
    with running(database, "--identity-header", "X-Forwarded-User", workers=1) as started:
        yield started


def test_the_page_of_the_api_lists_every_endpoint(service: Service) -> None:
    paths = service.request("GET", "/api/openapi.json").json["paths"]
    described = {f"`{method.upper()} /api{path}`" for path, methods in paths.items() for method in methods}
    documented = {request for request, _ in page("docs/api.md").table("The API")}

    assert documented == described - {"`GET /api/metrics`", "`GET /api/docs/{file}`"}


def test_the_page_of_the_api_lists_every_error(service: Service) -> None:
    document = service.request("GET", "/api/openapi.json").json
    responses = {
        (status, response["$ref"].rpartition("/")[2])
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, response in operation["responses"].items()
    }
    described = {
        (status, code)
        for status, name in responses
        for code in re.findall(r'"error": "(\w+)"', json.dumps(document["components"]["responses"][name]))
    }
    documented = {(status, code.strip("`")) for status, code, *_ in page("docs/api.md").table("Errors")}

    # No endpoint in the document has a wrong method.
    assert documented == described | {("405", "method_not_allowed")}


def test_the_page_for_operators_lists_every_metric(service: Service) -> None:
    service.request("GET", "/products")
    exposed = re.findall(r"^# TYPE (\w+)", service.request("GET", "/metrics").body.decode(), re.MULTILINE)
    documented = {metric.strip("`") for metric, *_ in page("docs/running.md").table("Metrics")}

    assert documented == set(exposed)


def test_the_page_for_operators_shows_a_log_line_as_it_is(service: Service) -> None:
    service.request("GET", "/products")
    [shown] = [block.text for block in page("docs/running.md").blocks("json") if "duration_ms" in block.text]
    wait_for(lambda: '"message":"request"' in service.log.read_text())
    logged = service.log.read_text().splitlines()[-1]

    assert list(json.loads(shown)) == list(json.loads(logged))
