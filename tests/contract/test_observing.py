"""Metrics may fail; answers may not. And a service that can keep no worker alive ends."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import pytest

from contract.faults import impatient, in_mount_namespace, serving
from contract.running import Service
from waiting import A_LONG_TIME, wait_for

OK = HTTPStatus.OK


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Return where the database of a test lies."""
    return tmp_path / "benefits.db"


def fill(folder: Path) -> None:
    """Fill a file system."""
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))


def kill_every_worker(service: Service) -> None:
    """Kill all workers, and wait until there are as many again."""
    before = service.workers()
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: len(service.workers() - before) == service.worker_count)


def placed(service: Service) -> str:
    """Return what the metrics say of orders."""
    text = service.request("GET", "/metrics").body.decode()
    return next(line for line in text.splitlines() if line.startswith("benefits_orders_placed_total"))


def test_a_shared_memory_folder_that_is_full_costs_no_answer(database: Path) -> None:
    before = in_mount_namespace("mount -t tmpfs -o size=300k tmpfs /dev/shm")
    with serving(database, before=before) as service:
        fill(Path(f"/proc/{service.process.pid}/root/dev/shm"))
        workers = service.workers()
        for number in range(60):
            assert service.order(f"user-{number}", "netflix").status == OK
            assert service.request("GET", f"/none-{number}").status == HTTPStatus.NOT_FOUND
        assert service.workers() == workers
        assert placed(service) == "benefits_orders_placed_total 60.0"
        kill_every_worker(service)
        service.wait_until_it_answers()
        assert service.order("jo", "netflix").status == OK
        assert placed(service) == "benefits_orders_placed_total 61.0"


def test_a_service_needs_no_temporary_folder(database: Path) -> None:
    script = f"mount --bind {database.parent} {database.parent}\n" + "\n".join(
        f"mount --rbind {folder} {folder}; mount -o remount,ro,bind {folder}"
        for folder in ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - they become read-only
    )
    with serving(
        database,
        before=in_mount_namespace(script),
        cwd="/proc",
        traced=False,
        variables={"TMPDIR": "/proc"},
    ) as service:
        assert service.order("jo", "netflix").status == OK
        kill_every_worker(service)
        service.wait_until_it_answers()
        assert placed(service) == "benefits_orders_placed_total 1.0"


def test_a_temporary_folder_that_is_emptied_while_it_serves_costs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    script = f"mount --bind {folder} /dev/shm"
    with serving(
        tmp_path / "benefits.db", before=in_mount_namespace(script), variables={"TMPDIR": str(folder)}
    ) as service:
        for left in folder.iterdir():
            raise AssertionError(f"{left} could be removed")
        assert service.order("jo", "netflix").status == OK
        kill_every_worker(service)
        service.wait_until_it_answers()
        assert placed(service) == "benefits_orders_placed_total 1.0"


def test_without_memory_for_metrics_it_says_so_once_and_serves(database: Path) -> None:
    """No file may be longer than 500 kB: a database is shorter, and what the counts need is not."""
    with serving(database, before=["prlimit", "--fsize=500000"]) as service:
        for number in range(20):
            assert service.order(f"user-{number}", "netflix").status == OK
        assert service.request("GET", "/metrics").status == HTTPStatus.INTERNAL_SERVER_ERROR
        kill_every_worker(service)
        service.wait_until_it_answers()
        assert service.order("jo", "netflix").status == OK
        assert service.log.read_text().count("There are no metrics") == 1


def test_a_service_that_can_keep_no_worker_alive_ends_with_status_2(database: Path) -> None:
    with serving(database, program=impatient(HOPELESS=2)) as service:
        database.rename(database.with_name("aside.db"))
        for worker in service.workers():
            os.kill(worker, signal.SIGKILL)
        assert service.process.wait(A_LONG_TIME) == 2
        assert "benefits: no worker process could be kept alive for 2 s" in service.log.read_text()


@pytest.mark.slow
def test_a_service_of_which_one_worker_lives_does_not_end(database: Path) -> None:
    with serving(database) as service:
        database.rename(database.with_name("aside.db"))
        os.kill(min(service.workers()), signal.SIGKILL)
        with pytest.raises(TimeoutError):
            wait_until_it_ends(service, seconds=25)
        database.with_name("aside.db").rename(database)
        service.wait_until_it_answers()


def wait_until_it_ends(service: Service, seconds: int) -> None:
    """Wait until the main process has ended."""
    try:
        service.process.wait(seconds)
    except Exception as error:
        raise TimeoutError from error
