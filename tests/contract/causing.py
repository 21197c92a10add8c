"""Services to cause faults in: they run in another environment, with other streams, or behind another command."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contract.running import Service, seed, start


@contextmanager
def serving(
    database: Path, *options: str, environment: dict[str, str] | None = None, **start_options: Any
) -> Iterator[Service]:
    """Run a service over a database that has a catalogue; kill what is left of it in the end.

    :param environment: variables that it has besides those of this process.
    :param start_options: see ``start``.
    """
    seed(database)
    if environment is not None:
        start_options["env"] = os.environ | environment
    service = start(database, *options, **start_options)
    try:
        service.wait_until_it_answers()
        yield service
    finally:
        if service.process.poll() is None:
            service.stop()
        service.kill()


def descendants(process: int) -> set[int]:
    """Return the ids of the processes that a process has started, and that they have started."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except OSError:
        return set()
    found = {int(child) for child in children}
    return found.union(*map(descendants, found))


def run_as(user: int) -> Sequence[str]:
    """Return a command that runs another one as a user without rights. It needs root."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
