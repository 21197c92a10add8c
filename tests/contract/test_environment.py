"""The environment: variables that are not meant for the service, and files in the working folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest

from benefits_sqlite import audit_database
from contract.faults import serving
from contract.running import SEED, environment
from waiting import wait_for

REPOSITORY = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("benefits")

# What Kubernetes sets in every container for a Service named "benefits" with one port, in IPv4 and in IPv6.
SERVICE = {
    "BENEFITS_SERVICE_HOST": "10.96.0.12",
    "BENEFITS_SERVICE_PORT": "4000",
    "BENEFITS_SERVICE_PORT_HTTP": "4000",
    "BENEFITS_PORT": "tcp://10.96.0.12:4000",
    "BENEFITS_PORT_4000_TCP": "tcp://10.96.0.12:4000",
    "BENEFITS_PORT_4000_TCP_PROTO": "tcp",
    "BENEFITS_PORT_4000_TCP_PORT": "4000",
    "BENEFITS_PORT_4000_TCP_ADDR": "10.96.0.12",
}


# No machine has this address, so that the default port is named and not listened at.
NOWHERE = "192.0.2.1"
CAN_NOT_LISTEN = (
    f"can't listen at {NOWHERE} port 4000: Cannot assign requested address; see --host and --port"
)


@pytest.mark.parametrize(
    "address",
    ["tcp://10.96.0.12:4000", "udp://10.96.0.12:53", "tcp://[fd00::1]:4000", "TCP://10.96.0.12:4000"],
)
def test_the_variables_of_a_kubernetes_service_are_ignored_with_a_line(tmp_path: Path, address: str) -> None:
    """The port is the default one then."""
    done = subprocess.run(
        [PROGRAM, "serve", "--host", NOWHERE, "--database", tmp_path / "benefits.db"],
        capture_output=True,
        text=True,
        env=os.environ | SERVICE | {"BENEFITS_PORT": address},
        check=False,
    )

    ignored = f"BENEFITS_PORT is ignored: {address} is the address of a service, not a setting.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, ignored, f"benefits: {CAN_NOT_LISTEN}\n")


def test_an_option_is_taken_before_such_a_variable(tmp_path: Path) -> None:
    with serving(tmp_path / "benefits.db", variables=SERVICE) as service:
        assert service.request("GET", "/healthz").status == HTTPStatus.OK
        assert "ignored" not in service.log.read_text()


def test_the_identity_header_is_never_ignored(tmp_path: Path) -> None:
    """Without it, any client could order for every user."""
    variables = {"BENEFITS_IDENTITY_HEADER": "tcp://10.96.0.12:4000"}
    done = subprocess.run(
        [PROGRAM, "serve", "--database", tmp_path / "benefits.db"],
        capture_output=True,
        text=True,
        env=os.environ | variables,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert "'tcp://10.96.0.12:4000' is not a header name" in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        SERVICE,
        {},
        {"BENEFITS_PORT": "4000"},
        {"PORT": "4000"},
        {"PORT": "tcp://10.96.0.12:4000"},
        {"BENEFITS_DATABASE": "tcp://10.96.0.13:5432"},
    ],
)
def test_make_run_serves_on_the_default_port_with_such_variables(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    installed = Path(sys.prefix, "service-installed")
    done = subprocess.run(
        ["/usr/bin/make", "-o", installed, "run", f"VENV={sys.prefix}", f"DATABASE={tmp_path / 'run.db'}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env=os.environ | variables | {"BENEFITS_HOST": NOWHERE},
        check=False,
    )

    assert f"benefits: {CAN_NOT_LISTEN}\n" in done.stderr
    assert audit_database(str(tmp_path / "run.db")).products == 15


def folder_of_traps(tmp_path: Path, *names: str) -> Path:
    """Return a folder with modules that must not be imported."""
    folder = tmp_path / "traps"
    for name in names:
        module = folder / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(f"raise SystemExit('imported {name} from the working folder')")
    return folder


STANDARD = ["types.py", "enum.py", "socket.py", "random.py", "asyncio/__init__.py", "multiprocessing.py"]
PACKAGES = ["granian.py", "benefits_core/__init__.py", "benefits_service/__init__.py", "click.py", "six.py"]


def test_the_command_imports_nothing_from_the_working_folder(tmp_path: Path) -> None:
    folder = folder_of_traps(tmp_path, *STANDARD, *PACKAGES)
    program = [
        "/bin/sh",
        "-c",
        f'shift 3; exec {PROGRAM} "$@"',
        "sh",
    ]  # instead of python -m benefits_service
    with serving(tmp_path / "benefits.db", before=program, cwd=folder) as service:
        workers = service.workers()
        assert service.order("jo", "netflix").status == HTTPStatus.OK
        os.kill(min(workers), signal.SIGKILL)
        wait_for(lambda: len(service.workers() - workers) == 1)
        service.wait_until_it_answers()
        assert "imported" not in service.log.read_text()
        for worker in service.workers():
            environment = Path(f"/proc/{worker}/environ").read_bytes()
            assert b"\0PYTHONSAFEPATH=1\0" in b"\0" + environment


def test_run_as_a_module_it_imports_nothing_from_the_working_folder_either(tmp_path: Path) -> None:
    """Python itself imports types.py and others from there, before any line of this package runs."""
    folder = folder_of_traps(
        tmp_path, "socket.py", "random.py", "asyncio/__init__.py", *PACKAGES[:2], "click.py"
    )
    with serving(tmp_path / "benefits.db", cwd=folder) as service:
        assert service.order("jo", "netflix").status == HTTPStatus.OK
    for options in ([], ["-P"]):
        done = subprocess.run(
            [
                sys.executable,
                *options,
                "-m",
                "benefits_service",
                "seed",
                SEED,
                "--database",
                tmp_path / "b.db",
            ],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_of_sources_is_run_as_a_module_with_its_own_packages(tmp_path: Path) -> None:
    """As developers do who have changed a copy: there, the working folder is where the packages are."""
    copy = tmp_path / "src"
    shutil.copytree(REPOSITORY / "src", copy)
    with (copy / "benefits_core" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write("print('the copy')\n")
    done = subprocess.run(
        [sys.executable, "-m", "benefits_service", "check", "--database", "missing"],
        cwd=copy,
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.stdout == "the copy\n"
