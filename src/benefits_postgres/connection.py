"""A connection to PostgreSQL: how it is opened, how it runs statements, and what its errors mean."""

from __future__ import annotations

import re
import select
from collections.abc import Iterable, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from benefits_core.errors import BenefitsError, InconsistentChangeError, StorageUnavailableError

PATIENCE: Final = 5.0
"""How long a change waits to begin, in seconds, unless the store has another patience."""

ANSWER: Final = 10.0
"""How long to wait for an answer, in seconds, where PostgreSQL itself has no limit: the COMMIT of a server that has lost its
synchronous standby waits for ever."""

_OLDEST: Final = 140000  # PostgreSQL 14
_ENCODING: Final = "UTF8"
_CONFLICTS: Final = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)

_NOT_STORABLE: Final = re.compile("[\0\ud800-\udfff]")
_ATTEMPT: Final = re.compile("^(- host: .*?: )?connection (failed|is bad): ", re.MULTILINE)
_HINTS: Final = {
    "no password supplied": "name it in ~/.pgpass, or in the variable PGPASSWORD",
    "in hot standby mode": "name the primary server, or all of them: postgresql://USER@HOST,HOST/NAME",
    "permission denied for schema": "the role needs the right to create tables in it",
}

DURABLY: Final = """
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' WHEN 'local' THEN 'on' ELSE current_setting('synchronous_commit') END, true)
    """
"""An expression: with it in a transaction, COMMIT returns once it has reached the disk, whatever the database's default is."""

Rows = list[tuple[Any, ...]]


class ConnectionLostError(StorageUnavailableError):
    """The connection was lost before the answer came."""


class ConflictError(StorageUnavailableError):
    """PostgreSQL has undone the transaction because of another one. It can be run again."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for an answer until a limit."""

    limit: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See :class:`psycopg.Connection`."""
        return super().wait(gen, interval, self.limit if timeout is None else timeout)


class Database:
    """One connection, opened when it is needed, and again after it was lost. One thread at a time may use it.

    :param url: the database, as libpq takes it: ``postgresql://user@host/name``. What it lacks, libpq takes from the
        environment and the user's files, such as the password.
    :param patience: how long opening may take, in seconds.
    :param read_only: whether any server will do, also one that can't be written to, such as a standby.
    """

    def __init__(self, url: str, patience: float, *, read_only: bool = False) -> None:
        self._parameters = _parameters(url, patience, read_only=read_only)
        self._connection: _Connection | None = None

    def run(
        self, statements: str, parameters: Sequence[object] = (), *, limit: float | None = ANSWER
    ) -> list[Rows]:
        """Run statements in one round trip; return the rows of each.

        Psycopg puts the parameters into the text. So there are no prepared statements, which PgBouncer may not know.

        :param limit: how long to wait for the answer, in seconds; None to wait as long as the connection lives.
        :raises InconsistentChangeError: a constraint was broken.
        :raises ConnectionLostError: it is not known how far the statements came.
        :raises ConflictError: the transaction was undone, and can be run again.
        :raises StorageUnavailableError: another failure, or the database can't be reached.
        """
        connection = self._usable()
        connection.limit = limit
        try:
            with psycopg.ClientCursor(connection) as cursor:
                cursor.execute(statements, parameters or None)
                return [cursor.fetchall() if cursor.description else [] for _ in cursor.results()]
        except psycopg.Error as error:
            raise self._failure(connection, error) from error

    def copy(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run ``COPY ... FROM STDIN`` with these rows. See :meth:`run` for its errors."""
        connection = self._usable()
        connection.limit = None
        try:
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            raise self._failure(connection, error) from error

    def _failure(self, connection: _Connection, error: psycopg.Error) -> BenefitsError:
        # Whether the server is ready for the next statement says more than the error: one of PgBouncer has no severity.
        lost = connection.info.transaction_status in {TransactionStatus.ACTIVE, TransactionStatus.UNKNOWN}
        if lost:
            self.close()
        return core_error(error, lost=lost)

    def _usable(self) -> _Connection:
        if self._connection is not None and (self._connection.closed or _has_news(self._connection)):
            status = self._connection.info.transaction_status
            self.close()
            if status is not TransactionStatus.IDLE:
                # On another connection, the statements would be kept at once, and without locks.
                raise ConnectionLostError("the connection was lost within a transaction")
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> _Connection:
        try:
            connection = _Connection.connect(**self._parameters, autocommit=True)
        except UnicodeError:
            raise StorageUnavailableError("the name of its host is not valid") from None
        except psycopg.Error as error:
            raise core_error(error) from error
        try:
            _require_suitable(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def roll_back(self) -> None:
        """End the transaction, if there is one."""
        connection = self._connection
        if connection is not None and connection.info.transaction_status is not TransactionStatus.IDLE:
            try:
                self.run("ROLLBACK")
            except StorageUnavailableError:
                self.close()

    def close(self) -> None:
        """Close the connection. It is opened again when it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def core_error(error: psycopg.Error, *, lost: bool = False) -> BenefitsError:
    """Return the core's error for one of psycopg's, in one line. It never holds the password.

    :param lost: whether the connection was lost.
    """
    message = error.diag.message_primary or _in_one_line(str(error))
    message += "".join(f"; {hint}" for part, hint in _HINTS.items() if part in message)
    if lost:
        return ConnectionLostError(message)
    if isinstance(error, psycopg.IntegrityError):
        return InconsistentChangeError(message)
    return (ConflictError if isinstance(error, _CONFLICTS) else StorageUnavailableError)(message)


def _in_one_line(text: str) -> str:
    # Of several servers, psycopg repeats the failure of the last one. What libpq suggests has lines that begin with a tab.
    text = text.partition("All failures were:\n")[2] or text
    return "; ".join(
        " ".join(line.split()) for line in _ATTEMPT.sub("", text).splitlines() if not line.startswith("\t")
    )


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can have such a text. It has none with a NUL or a lone surrogate."""
    return _NOT_STORABLE.search(text) is None


def shown(url: str) -> str:
    """Return the URL of a database without what only its users may know.

    :raises StorageUnavailableError: it is not valid.
    """
    given = _given(url)
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    return f"postgresql://{user}{given.get('host', '')}{port}/{given.get('dbname', '')}"


def _given(url: str) -> dict[str, Any]:
    with suppress(psycopg.ProgrammingError, UnicodeError):
        given: dict[str, Any] = conninfo_to_dict(url)
        # If a password is not escaped, libpq takes a part of it for the host, the port or the name.
        path = url.partition("://")[2].partition("?")[0].partition("/")[2]
        in_host = any("@" in host[1:] for host in given.get("host", "").split(","))
        if re.fullmatch("[0-9,]*", given.get("port", "")) and not in_host and "@" not in path:
            return given
    raise StorageUnavailableError(  # in which nothing of it is quoted
        "this is no valid PostgreSQL URL; write postgresql://USER@HOST:PORT/NAME,"
        " and in a password %40 for @, %2F for /, and %25 for %"
    )


def _parameters(url: str, patience: float, *, read_only: bool) -> dict[str, Any]:
    defaults = {
        "application_name": "benefits",
        "connect_timeout": max(2, ceil(patience)),
        "target_session_attrs": "any" if read_only else "primary",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    return defaults | _given(url) | {"client_encoding": _ENCODING}


def _has_news(connection: _Connection) -> bool:
    """Return whether the server has sent something without being asked: that it has closed the connection."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _require_suitable(connection: _Connection) -> None:
    info = connection.info
    if info.server_version < _OLDEST:
        raise StorageUnavailableError(
            f"it is PostgreSQL {info.server_version // 10000}; version 14 or newer is needed"
        )
    encoding = info.parameter_status("server_encoding")
    if encoding != _ENCODING:
        raise StorageUnavailableError(f"its encoding is {encoding}; create a database with ENCODING 'UTF8'")
