"""The changes of a batch, which share a transaction: each locks one user, finds products, and adds orders. Orders do no more.

They run twice. The first run ends where a change asks for its user; then one round trip locks and reads the users of all; in
the second run, everything is there. What a change writes is kept back. So a change that is refused leaves nothing to undo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar, cast

import attrs

from benefits_core.model import User
from benefits_core.ports import UnitOfWork
from benefits_postgres.catalogue import Catalogue
from benefits_postgres.repositories import PostgresUnitOfWork, Session
from benefits_postgres.writes import Writes

_Result = TypeVar("_Result")


@attrs.define
class Batch:
    """What the changes of a batch share.

    :ivar users: the users whom the batch has locked, as they are now, by id; None if there is no user of this id.
    :ivar catalogue: the products on offer; None until they are read.
    :ivar order_numbers: the numbers that new orders may have.
    :ivar held: the ids of users whom other changes hold.
    """

    users: dict[str, User | None] = attrs.field(factory=dict)
    catalogue: Catalogue | None = None
    order_numbers: list[int] = attrs.field(factory=list)
    held: set[str] = attrs.field(factory=set)
    writes: Writes = attrs.field(factory=Writes)


class _UnfitError(BaseException):
    """Ends the run of a change that asks for what its batch has not got. No ``except Exception`` of it may catch this."""


class BatchSession(Session):
    """One run of a change of a batch.

    :ivar wanted: the id of the user that the change has requested; None if it has requested no user.
    :ivar unfit: whether the run has ended at something that the batch has not got.
    :ivar alone: whether the change has to run alone.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self._batch = batch
        self.wanted: str | None = None
        self.unfit = False
        self.alone = False

    def run(self, do: Callable[[UnitOfWork], _Result]) -> _Result:
        """Run a change, and add what it has written to the batch."""
        try:
            result = do(cast("UnitOfWork", PostgresUnitOfWork(self)))
            self.state.require_usable()
            self._batch.users.update(self.state.users)
            self._batch.writes.add(self.writes)
            return result
        finally:
            self.state.end()

    def _end(self, *, alone: bool) -> NoReturn:
        """End this run, also if the change catches the error."""
        self.unfit, self.alone = True, alone
        raise self.state.lose(_UnfitError())

    def query(self, *_: object) -> NoReturn:
        """See :class:`~benefits_postgres.repositories.Session`. It ends this run: no batch has got that."""
        self.state.require_usable()
        self._end(alone=True)

    def lock(self, user_ids: Sequence[str]) -> NoReturn:
        """See :meth:`query`."""
        self.query(user_ids)

    def lock_id(self, user_id: str) -> User | None:
        """See :class:`~benefits_postgres.repositories.Session`. The first run ends here."""
        if user_id not in self._batch.users:
            self.wanted = user_id
            self._end(alone=self._batch.catalogue is not None)  # it has been read, and can't be read again
        return self._batch.users[user_id]

    def catalogue(self) -> Catalogue:
        """See :class:`~benefits_postgres.repositories.Session`."""
        self.state.require_usable()
        return self._batch.catalogue or self._end(alone=False)

    def new_order_number(self) -> int:
        """See :class:`~benefits_postgres.repositories.Session`."""
        self.state.require_usable()
        return self._batch.order_numbers.pop(0) if self._batch.order_numbers else self._end(alone=True)
