"""The production web server: Granian, several worker processes, each with an event loop."""

from __future__ import annotations

import atexit
import errno
import gc
import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import Any, Final, cast

from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer, WorkerProcess

from benefits_service import logs
from benefits_service.composition import build_app
from benefits_service.middleware.metrics import shared_by_workers
from benefits_service.runtime.asgi import ASGIApplication
from benefits_service.runtime.writing import Connect
from benefits_service.settings import Settings

# How long requests in flight may take once the service was told to stop, in seconds.
GRACE: Final = 8

# A worker that can't start is tried again and again, but not in a hurry, in seconds.
PAUSE_BETWEEN_RESPAWNS: Final = 0.2


def resolve(host: str, port: int) -> str:
    """Return the IP address to listen at, which is what Granian wants.

    It also finds out that the port is taken, which Granian wouldn't: it shares ports between processes.

    :raises OSError: nobody can listen there; the reason is its ``strerror``.
    """
    try:
        [family, kind, protocol, _, address], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # what a name with an empty or an endless part ends in
        raise OSError(errno.EINVAL, "It is not the name of a host") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    return str(address[0])


def _begin_work(settings: Settings, metrics_folder: Path, end: socket.socket) -> ASGIApplication:
    """Be a worker process: return the application that it serves."""
    # A terminal sends Ctrl-C to every process. The parent alone acts on it, and tells the workers to finish by SIGTERM.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    Thread(target=_outlive_nobody, args=[metrics_folder], daemon=True).start()
    # Granian's threads may still run when the interpreter is taken down, and abort the process then (before Python 3.14).
    # What is registered first is done last.
    atexit.register(os._exit, 0)
    app = build_app(settings, end)
    _freeze()
    return app


def _freeze() -> None:
    # What is there now stays. To look through it for garbage, again and again, stopped everybody for 20 to 30 ms each time.
    gc.collect()
    gc.freeze()


def _prefer_throughput() -> None:
    # Each request goes through several threads. Unless told otherwise, Linux stops whoever runs for the sake of who has just
    # been woken up, and each finds the caches filled by the other: reading took a sixth longer.
    with suppress(AttributeError, OSError):  # another system, or a container that may not
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _outlive_nobody(metrics_folder: Path) -> None:
    # A worker whose parent was killed would go on, hold the port, and never be replaced.
    cast("BaseProcess", multiprocessing.parent_process()).join()
    shutil.rmtree(metrics_folder, ignore_errors=True)  # nobody else would
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)  # which nobody else enforces any more: a stalled client could keep it for ever
    os._exit(1)


class _Supervisor(MPServer):
    """Granian, which replaces a worker that dies however often one does.

    By itself it gives up the whole service when a worker dies twice within seconds, although the others are well, and
    although what a worker can't start without, such as the database file, may be back in the next moment.
    """

    def __init__(self, connect: Connect, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        super().__init__("benefits", **options)
        self._connect = connect
        self._handed_over = ExitStack()

    def _spawn_worker(
        self,
        idx: int,
        target: Callable[..., None],
        callback_loader: Callable[..., object],
        *arguments: object,
    ) -> WorkerProcess:
        self._handed_over.close()  # whom it was for has got it by now
        end = self._handed_over.enter_context(self._connect())
        callback_loader = partial(callback_loader, end)
        return super()._spawn_worker(idx, target, callback_loader, *arguments)

    def serve(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        with self._handed_over:
            try:
                super().serve(*arguments, **options)
            except BaseException:
                # Else this process would wait for its workers, and they for somebody who writes.
                self._stop_workers()  # type: ignore[no-untyped-call] # it has no types
                raise

    def _respawn_workers(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        super()._respawn_workers(*arguments, **options)
        self.respawned_wrks.clear()  # the record by which it would give up
        time.sleep(PAUSE_BETWEEN_RESPAWNS)


def serve(settings: Settings, writing: AbstractContextManager[Connect]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight are answered before it returns.

    :param writing: as long as it is open, this process writes for the workers that it connects.
    """
    _prefer_throughput()  # as will all that is begun here
    # A worker that dies is replaced while threads run here, and a fork would inherit their locks.
    multiprocessing.set_start_method("spawn")
    with shared_by_workers() as metrics_folder, writing as connect:
        _freeze()
        _Supervisor(
            connect,
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGINL,
            workers=settings.workers,
            # By HTTP/2 one connection could ask for as much at once as a hundred clients.
            http=HTTPModes.http1,
            websockets=False,
            loop=Loops.asyncio,  # with uvloop, one Ctrl-C in some twenty left a worker that never ended
            log_level=LogLevels.error,
            log_dictconfig=logs.CONFIG,
            respawn_failed_workers=True,
            workers_kill_timeout=GRACE,
        ).serve(target_loader=partial(_begin_work, settings, metrics_folder), wrap_loader=False)
