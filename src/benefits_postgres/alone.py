"""The session of a change that runs alone: whatever it reads is one query, and it waits for the locks of other changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benefits_core.errors import BenefitsError
from benefits_core.model import User
from benefits_postgres.catalogue import SELECT_CATALOGUE, Catalogue, catalogue_from
from benefits_postgres.connection import ConflictError, Database, Rows
from benefits_postgres.readers import SELECT_USERS, user_from
from benefits_postgres.repositories import Session

# In the sequence of their ids, which avoids most deadlocks. PostgreSQL ends the others, and the change runs again. The users are
# read by a statement of its own: one that waits for a lock returns afterwards the new balance, but not the new purchases.
_LOCK_USERS: Final = (
    "SELECT user_number FROM users WHERE user_id = ANY(%s) ORDER BY user_id FOR NO KEY UPDATE"
)
_SELECT_USERS: Final = f"{SELECT_USERS} WHERE user_id = ANY(%s)"
KEY: Final = "hashtextextended(user_id, 'users'::regclass::oid::bigint)"
"""The advisory lock of a user id, of these tables only."""

NEWCOMERS: Final = "(VALUES ('')) AS newcomers(user_id)"
"""In place of a user id: the lock of all newcomers. Every batch that may add a user shares it."""

# Until its end, no other change adds a user.
_LOCK_NEWCOMERS: Final = f"SELECT pg_advisory_xact_lock({KEY}) FROM {NEWCOMERS}"
# Until its end, no other change that runs alone reads the catalogue or changes it.
_LOCK_CATALOGUE: Final = "SELECT FROM catalogue FOR UPDATE;"
_LATER_ORDERS: Final = "SELECT true FROM orders WHERE order_number > %s AND user_number = ANY(%s) LIMIT 1"
_NUMBERS_AT_ONCE: Final = 500


class LoneSession(Session):
    """A change that runs alone, in a transaction that has begun on this connection."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._numbers: list[int] = []  # for new users
        self._newcomers_locked = False
        self._unused: set[str] = set()  # ids of which there is no user, and no other change can add one

    def query(self, sql: str, parameters: Sequence[object] = ()) -> Rows:
        """See :class:`~benefits_postgres.repositories.Session`."""
        self.state.require_usable()
        written, values = self.writes.take()
        try:
            return self._database.run(written + sql, [*values, *parameters], limit=None)[-1]
        except Exception as error:  # whatever it is: what was written is neither kept back nor sent
            raise self.state.lose(error) from error

    def lock(self, user_ids: Sequence[str]) -> Mapping[str, User]:
        """See :class:`~benefits_postgres.repositories.Session`."""
        locked: set[int] = set()
        while True:
            locked.update(number for (number,) in self.query(_LOCK_USERS, (user_ids,)))
            rows = self.query(_SELECT_USERS, (user_ids,))
            # Another change may have renamed a user, and a new user may have taken the id. Then lock the new one too.
            if locked.issuperset(row[1] for row in rows):
                break
        numbers = {row[0]: row[1] for row in rows}
        drawn = self.state.new_ids
        if drawn and self.query(_LATER_ORDERS, (int(drawn[0]), list(numbers.values()))):
            # The next time, later numbers are drawn.
            raise self.state.lose(ConflictError("another change has placed an order in the meantime"))
        users = {row[0]: user_from(row) for row in rows}
        self.writes.numbers.update(numbers)
        self.state.users.update(users)
        if self._newcomers_locked:
            self._unused.update(set(user_ids).difference(users))
        return users

    def lock_id(self, user_id: str) -> User | None:
        """See :class:`~benefits_postgres.repositories.Session`."""
        users = {} if user_id in self._unused else self.lock([user_id])
        if not users and not self._newcomers_locked:
            self.query(_LOCK_NEWCOMERS)
            self._newcomers_locked = True
            users = self.lock([user_id])  # another change may have added it in between
        if not users:
            self.writes.numbers[user_id] = self._new_number()
        return users.get(user_id)

    def _new_number(self) -> int:
        if not self._numbers:
            rows = self.query(
                "SELECT nextval('user_numbers') FROM generate_series(1, %s)", [_NUMBERS_AT_ONCE]
            )
            self._numbers = [number for (number,) in rows]
        return self._numbers.pop()

    def catalogue(self) -> Catalogue:
        """See :class:`~benefits_postgres.repositories.Session`. The first time, it is locked."""
        rows = self.query(f"{_LOCK_CATALOGUE} {SELECT_CATALOGUE}")
        try:
            return catalogue_from(rows)
        except BenefitsError as error:
            raise self.state.lose(error) from error

    def new_order_number(self) -> int:
        """See :class:`~benefits_postgres.repositories.Session`."""
        [[number]] = self.query("SELECT nextval('order_numbers')")
        return int(number)
