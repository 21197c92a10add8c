"""The production web server: Granian, several worker processes, each with an event loop."""

from __future__ import annotations

import atexit
import errno
import gc
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, Final, cast

from granian.constants import HTTPModes, Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer

from benefits_service import logs
from benefits_service.runtime.asgi import ASGIApplication

# How long requests in flight may take after a signal to stop, in seconds.
GRACE: Final = 8

# Before a worker that died is replaced again, in seconds.
PAUSE_BETWEEN_RESPAWNS: Final = 0.2


def resolve(host: str, port: int) -> str:
    """Return the IP address to listen at, which is what Granian wants.

    It also notices a port that is taken, which Granian does not: it shares ports between processes.

    :raises OSError: this address can't be listened at; its ``strerror`` has the reason.
    """
    try:
        [family, kind, protocol, _, address], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # what a name with an empty or an endless part ends in
        raise OSError(errno.EINVAL, "It is not the name of a host") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    return str(address[0])


def _begin_work(build: Callable[[], ASGIApplication], clean_up: Callable[[], None]) -> ASGIApplication:
    """Return the application that this worker process serves."""
    # A terminal sends Ctrl-C to every process. Only the parent acts on it: it ends its workers by SIGTERM.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    Thread(target=_end_with_parent, args=[clean_up], daemon=True).start()
    # Granian's threads may still run while the interpreter shuts down, and would abort the process (before Python 3.14).
    # What is registered first runs last.
    atexit.register(os._exit, 0)
    app = build()
    _freeze()
    return app


def _freeze() -> None:
    # Exempt what exists now from garbage collection: each full collection stopped every request for 20 to 30 ms.
    gc.collect()
    gc.freeze()


def _prefer_throughput() -> None:
    # SCHED_BATCH avoids wake-up preemption between our threads (reads: one sixth faster).
    with suppress(AttributeError, OSError):  # another system, or a container that forbids it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _end_with_parent(clean_up: Callable[[], None]) -> None:
    # A worker whose parent was killed would hold the port, and would never be replaced.
    cast("BaseProcess", multiprocessing.parent_process()).join()
    clean_up()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)  # the parent would enforce it: a stalled client could keep the worker for ever
    os._exit(1)


class _Supervisor(MPServer):
    """Granian, but it replaces a worker that dies, however often.

    Granian ends the whole service when a worker dies twice within seconds, although the other workers are well, and
    although what a worker needs in order to start, such as the database file, may be back in the next moment.
    """

    def serve(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        try:
            super().serve(*arguments, **options)
        except BaseException:
            self._stop_workers()  # type: ignore[no-untyped-call] # else this process would wait for them for ever
            raise

    def _respawn_workers(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on as they are
        super()._respawn_workers(*arguments, **options)
        self.respawned_wrks.clear()  # by this record it would end the service
        time.sleep(PAUSE_BETWEEN_RESPAWNS)


def serve(
    build: Callable[[], ASGIApplication],
    *,
    host: str,
    port: int,
    workers: int,
    clean_up: Callable[[], None],
) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in flight are answered before it returns.

    :param build: builds the application, in each worker process; it is pickled to get there.
    :param host: the IP address to listen at, as :func:`resolve` returns it.
    :param workers: the number of worker processes.
    :param clean_up: what workers do when their parent was killed before it could; it is pickled too.
    """
    _prefer_throughput()  # the workers and their threads inherit it
    # A worker that dies is replaced while this process has threads, and a fork would inherit their locks.
    multiprocessing.set_start_method("spawn")
    _freeze()
    _Supervisor(
        "benefits",
        address=host,
        port=port,
        interface=Interfaces.ASGINL,
        workers=workers,
        # By HTTP/2 one connection could send as many requests at once as a hundred clients.
        http=HTTPModes.http1,
        websockets=False,
        loop=Loops.asyncio,  # with uvloop, one Ctrl-C in about twenty left a worker that never ended
        log_level=LogLevels.error,
        log_dictconfig=logs.CONFIG,
        respawn_failed_workers=True,
        workers_kill_timeout=GRACE,
    ).serve(target_loader=partial(_begin_work, build, clean_up), wrap_loader=False)
