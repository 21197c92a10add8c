"""The service is what its description says: Schemathesis, with all of its checks, tries to prove that it isn't."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import attrs
from werkzeug.serving import make_server

from benefits_core import MemoryStore, OfferProducts, UseCases
from benefits_http import create_app
from benefits_service.commands.catalogue_file import read_catalogue
from benefits_sqlite import audit_database
from contract.running import SEED, environment, running
from waiting import A_LONG_TIME

HERE = Path(__file__).parent
PHASES = ["examples", "coverage", "fuzzing", "stateful"]


@attrs.frozen
class Findings:
    """What Schemathesis has to say of a service that is as described."""

    report: Any
    output: str


def assert_as_described(url: str, folder: Path, *options: str, seed: int) -> Findings:
    """Let Schemathesis loose on a service, and assert that it tried every endpoint and found nothing.

    :param options: further ones of its command line.
    :param seed: with the same one it sends the same requests.
    """
    # Handed over as a file, since it leaves out the endpoint that it had the description from.
    document, report = folder / "openapi.json", folder / "report.json"
    with urlopen(f"{url}/openapi.json", timeout=A_LONG_TIME) as answer:  # noqa: S310 - our own service
        document.write_bytes(answer.read())
    fuzzer = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    always = ["--checks", "all", "--continue-on-failure", "--no-color", "--seed", str(seed)]
    reports = ["--report", "json", "--report-json-path", str(report)]
    run = subprocess.run(
        [*fuzzer, "run", str(document), "--url", url, *always, *reports, *options],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(HERE.parent), "SCHEMATHESIS_HOOKS": "contract.fuzzing"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(report.read_bytes())
    assert (found["failures"], found["errors"], found["stop_reason"]) == ([], [], "completed")
    assert found["operations"]["tested"] == sum(map(len, json.loads(document.read_bytes())["paths"].values()))
    print(found["test_cases"]["generated"], "requests")  # noqa: T201 - shown by `pytest -s`
    return Findings(found, run.stdout)


def assert_as_described_in_every_way(url: str, folder: Path, *, seed: int) -> None:
    """Let it try everything that it can."""
    findings = assert_as_described(url, folder, "--phases", ",".join(PHASES), seed=seed)
    found = findings.report
    assert [name for name in PHASES if found["phases"][name]["status"] == "success"] == PHASES
    assert found["test_cases"]["generated"] > 300
    # The links from an order to its user and to earlier orders, and one that Schemathesis infers.
    assert "3 covered / 3 selected / 3 total (1 inferred)" in findings.output
    # It can't know that refusals are not mistakes in the description; any other doubt of its would be one of ours.
    assert found["warnings"].pop("validation_mismatch") in ([], ["POST /orders"])
    assert not any(found["warnings"].values()), findings.output


def test_the_running_service_over_sqlite_is_as_described(tmp_path: Path) -> None:
    with running(tmp_path / "benefits.db") as service:
        # At the root, as the frontend calls, and where the metrics are.
        assert_as_described_in_every_way(f"http://127.0.0.1:{service.port}", tmp_path, seed=1)
        log = service.log.read_text()
    assert "Traceback" not in log
    books = audit_database(str(service.database))
    assert books.findings == ()
    assert books.orders > 5


def test_the_service_behind_an_identity_is_as_described(tmp_path: Path) -> None:
    """It answers 403 to another name, and 401 without the header, which the fuzzer also leaves out."""
    named = [
        "--header",
        "X-Forwarded-User: johndoe",
        # No name is a wrong one to an endpoint that says who one is. test_identity.py sends each endpoint none.
        "--exclude-checks",
        "ignored_auth",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "10",
    ]
    with running(tmp_path / "benefits.db", "--identity-header", "X-Forwarded-User") as service:
        assert_as_described(f"http://127.0.0.1:{service.port}", tmp_path, *named, seed=3)
        log = service.log.read_text()
    assert "Traceback" not in log
    assert {'"status":401,', '"status":403,'} <= set(re.findall('"status":40[13],', log))


def test_a_server_over_the_memory_store_is_as_described(tmp_path: Path) -> None:
    store = MemoryStore()
    OfferProducts(store)(read_catalogue(SEED.read_bytes()))
    server = make_server("127.0.0.1", 0, create_app(UseCases.over(store)), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert_as_described_in_every_way(f"http://127.0.0.1:{server.port}/api", tmp_path, seed=2)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert store.orders.get("6") is not None
