"""A connection to PostgreSQL: how it is opened, how it runs statements, and what its errors mean."""

from __future__ import annotations

import select
from collections.abc import Sequence
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
    :ivar opened: how often the connection was opened: what was remembered before the last time may be void, since
        another server may answer now.
    """

    def __init__(self, url: str, patience: float) -> None:
        self._parameters = _parameters(url, patience)
        self._connection: _Connection | None = None
        self.opened = 0

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
            if isinstance(error, psycopg.errors.ReadOnlySqlTransaction) or _is_wait_timeout(error):
                self.close()  # this server has become a standby, or is stuck
            raise core_error(error, lost=connection.closed or _is_fatal(error)) from error

    def _usable(self) -> _Connection:
        if self._connection is not None and (self._connection.closed or _has_news(self._connection)):
            self.close()
        if self._connection is None:
            self._connection = self._open()
            self.opened += 1
        return self._connection

    def _open(self) -> _Connection:
        try:
            connection = _Connection.connect(**self._parameters, autocommit=True)
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
                if connection.closed:
                    self.close()
                else:
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
    message = error.diag.message_primary or " ".join(str(error).split())
    if lost:
        return ConnectionLostError(message)
    if isinstance(error, psycopg.IntegrityError):
        return InconsistentChangeError(message)
    return (ConflictError if isinstance(error, _CONFLICTS) else StorageUnavailableError)(message)


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can have such a text. It has none with a NUL or a lone surrogate."""
    return ("\0" not in text and text.isascii()) or not any(
        c == "\0" or "\ud800" <= c <= "\udfff" for c in text
    )


def shown(url: str) -> str:
    """Return the URL of a database without what only its users may know.

    :raises StorageUnavailableError: it is not valid.
    """
    given = _given(url)
    user = f"{given['user']}@" if "user" in given else ""
    port = f":{given['port']}" if "port" in given else ""
    return f"postgresql://{user}{given.get('host', '')}{port}/{given.get('dbname', '')}"


def _given(url: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # What libpq says may hold a part of the password.
        raise StorageUnavailableError(
            "this is no valid PostgreSQL URL; write postgresql://USER@HOST:PORT/NAME, with % escapes"
        ) from None


def _parameters(url: str, patience: float) -> dict[str, Any]:
    defaults = {
        "application_name": "benefits",
        "connect_timeout": max(2, ceil(patience)),
        "target_session_attrs": "read-write",  # of several hosts, the primary
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


def _is_fatal(error: psycopg.Error) -> bool:
    # The server closes the connection after such an error. A commit that waits for a standby may have been kept.
    return error.diag.severity_nonlocalized in {"FATAL", "PANIC"}


def _is_wait_timeout(error: psycopg.Error) -> bool:
    return error.diag.sqlstate is None and "timeout" in str(error)


def _require_suitable(connection: _Connection) -> None:
    info = connection.info
    if info.server_version < _OLDEST:
        raise StorageUnavailableError(
            f"it is PostgreSQL {info.server_version // 10000}; version 14 or newer is needed"
        )
    encoding = info.parameter_status("server_encoding")
    if encoding != _ENCODING:
        raise StorageUnavailableError(f"its encoding is {encoding}; create a database with ENCODING 'UTF8'")
