"""A store on an event loop: while a request waits for it, the loop serves other requests."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from decimal import Decimal
from functools import partial
from pathlib import Path
from threading import Event, get_ident
from typing import Any, TypeVar

import pytest

from benefits_core import (
    GetUser,
    ListProducts,
    MemoryStore,
    OfferProducts,
    PlaceOrder,
    Product,
    ProductsAlreadyPurchasedError,
    StorageUnavailableError,
    Store,
    UnitOfWork,
    User,
)
from benefits_core.ports import View
from benefits_service.runtime.event_loop import EventLoopStore, on_event_loop
from benefits_service.runtime.suspension import Suspendable
from benefits_service.runtime.thread_pool import ThreadPoolStore
from benefits_sqlite import SqliteStore
from contract.builders import opening
from garbage import no_garbage_collection
from waiting import A_LONG_TIME, wait_for

_Result = TypeVar("_Result")

NETFLIX = Product("netflix", "Netflix", Decimal("75.99"))


class StuckStore(MemoryStore):
    """A store whose changes begin when a test says so."""

    reads_inline = True

    def __init__(self) -> None:
        super().__init__()
        self.submitted: list[tuple[Callable[[UnitOfWork], Any], Future[Any]]] = []

    def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
        future: Future[_Result] = Future()
        self.submitted.append((do, future))
        return future

    def submit_read(self, query: Callable[[View], _Result]) -> Future[_Result]:
        raise NotImplementedError

    def begin(self) -> None:
        """Begin all that was submitted."""
        submitted, self.submitted = self.submitted, []
        for do, future in submitted:
            if future.set_running_or_notify_cancel():
                future.set_result(self.change(do))


@pytest.fixture(params=["sqlite", "memory in a pool of threads"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return a store of each kind that the runtime serves differently."""
    if request.param == "sqlite":
        with SqliteStore(tmp_path / "benefits.db") as opened:
            OfferProducts(opened)([NETFLIX])
            yield opened
    else:
        memory = MemoryStore()
        OfferProducts(memory)([NETFLIX])
        yield memory


def run(request: Callable[[], _Result]) -> _Result:
    """Return what a request returns that is served on an event loop."""
    return asyncio.run(Suspendable(request)())


def together(*requests: Callable[[], _Result]) -> list[_Result | BaseException]:
    """Return what requests return, or raise, that are served at the same time."""

    async def serve() -> list[_Result | BaseException]:
        calls: list[Coroutine[Any, Any, _Result]] = [Suspendable(request)() for request in requests]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(serve())


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    while not condition():  # noqa: ASYNC110 - another thread may make it so
        await asyncio.sleep(0)


def test_use_cases_work_over_it_as_over_any_store(store: Store) -> None:
    served = on_event_loop(store)

    def request() -> None:
        assert ListProducts(served)() == (NETFLIX,)
        assert GetUser(served)("jo") == User("jo", Decimal(500))
        order = PlaceOrder(served)("jo", ["netflix"])
        assert served.orders.get(order.order_id) == order
        assert served.orders.of_user("jo") == served.orders.page(9) == (order,)
        assert [user.user_id for user in served.users.page(9)] == ["jo"]
        assert served.products.retired() == {}
        assert served.products.find(["netflix", "gym"]) == {"netflix": NETFLIX}
        with pytest.raises(ProductsAlreadyPurchasedError):
            PlaceOrder(served)("jo", ["netflix"])
        served.ping()

    run(request)
    assert store.users.get("jo") == User("jo", Decimal("424.01"), ("netflix",))


def test_of_identical_orders_at_the_same_time_one_is_placed(store: Store) -> None:
    place = PlaceOrder(on_event_loop(store))

    outcomes = together(*[lambda: place("jo", ["netflix"])] * 20)

    assert sum(isinstance(outcome, ProductsAlreadyPurchasedError) for outcome in outcomes) == 19
    assert len(store.orders.of_user("jo")) == 1


def test_while_a_change_runs_other_requests_are_served(store: Store) -> None:
    served = on_event_loop(store)
    begun, go_on = Event(), Event()

    def hold(_: UnitOfWork) -> str:
        begun.set()
        assert go_on.wait(A_LONG_TIME)
        return "held"

    async def serve() -> str:
        call = asyncio.ensure_future(Suspendable(lambda: served.change(hold))())
        await until(begun.is_set)
        assert await Suspendable(lambda: served.users.get("jo"))() is None
        assert not call.done()
        go_on.set()
        return await call

    assert asyncio.run(serve()) == "held"


def test_a_change_sees_the_context_of_its_request(store: Store) -> None:
    served = on_event_loop(store)
    name: ContextVar[str] = ContextVar("name")

    def request(value: str) -> str:
        name.set(value)
        return served.change(lambda _: name.get())

    assert together(lambda: request("a"), lambda: request("b")) == ["a", "b"]


def test_sqlite_is_read_on_the_loop_itself(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "benefits.db") as store:
        thread = get_ident()
        view = on_event_loop(store)
        assert view.users is store.users
        assert store.submit_read(lambda _: get_ident()).result() == thread


def test_the_changes_of_one_iteration_are_submitted_together() -> None:
    """Else the first one is committed alone, while the loop still reads for other requests."""
    store = StuckStore()
    served = EventLoopStore(store)
    submitted_before: list[int] = []

    def read() -> None:
        served.ping()
        submitted_before.append(len(store.submitted))

    async def serve() -> None:
        change = Suspendable(lambda: served.change(lambda _: None))
        calls = [asyncio.ensure_future(call()) for call in (change, Suspendable(read)) * 3]
        await until(lambda: len(store.submitted) == 3)
        store.begin()
        await asyncio.gather(*calls)

    asyncio.run(serve())
    assert submitted_before == [0, 0, 0]


def test_a_change_that_can_not_begin_in_time_is_never_run() -> None:
    store = StuckStore()
    served = EventLoopStore(store, patience=0)

    with pytest.raises(StorageUnavailableError, match="could not begin"):
        run(lambda: served.change(lambda work: work.users.get_or_add(opening("jo"))))

    store.begin()
    assert store.users.get("jo") is None


def test_a_change_that_has_begun_is_waited_for_however_long_it_takes() -> None:
    store = StuckStore()
    served = EventLoopStore(store, patience=0)

    async def serve() -> str:
        call = asyncio.ensure_future(Suspendable(lambda: served.change(lambda _: "kept"))())
        await until(lambda: store.submitted != [])
        [(_, future)] = store.submitted
        assert future.set_running_or_notify_cancel()
        await asyncio.sleep(0.01)  # the patience is over
        future.set_result("kept")
        return await call

    assert asyncio.run(serve()) == "kept"


def test_a_request_that_was_cancelled_does_not_disturb_the_others() -> None:
    store = StuckStore()
    served = EventLoopStore(store)

    async def serve() -> str:
        calls = [asyncio.ensure_future(Suspendable(lambda: served.change(lambda _: "kept"))()) for _ in "ab"]
        await until(lambda: len(store.submitted) == 2)
        calls[0].cancel()
        await asyncio.sleep(0)
        store.begin()
        return await calls[1]

    assert asyncio.run(serve()) == "kept"


def test_a_change_that_begins_after_its_deadline_is_refused() -> None:
    """As after the process was stopped: the timer that ends the wait has not run, nor has the store seen time pass."""

    class SlowStore(StuckStore):
        def submit(self, do: Callable[[UnitOfWork], _Result]) -> Future[_Result]:
            time.sleep(0.02)
            future: Future[_Result] = Future()
            try:
                future.set_result(self.change(do))
            except StorageUnavailableError as error:
                future.set_exception(error)
            return future

    store = SlowStore()
    served = EventLoopStore(store, patience=0.01)
    with pytest.raises(StorageUnavailableError, match=r"could not begin within 0\.01 s"):
        run(partial(GetUser(served), "jo"))

    assert store.users.get("jo") is None
    assert not served.can_change()


def test_a_store_that_is_stuck_can_not_change_and_is_asked_once() -> None:
    store = StuckStore()
    served = EventLoopStore(store, patience=A_LONG_TIME)

    async def serve() -> None:
        for _ in range(2):
            assert not await Suspendable(served.can_change)()
        assert len(store.submitted) == 1
        store.begin()
        asyncio.get_running_loop().call_later(0.01, store.begin)
        assert await Suspendable(served.can_change)()

    asyncio.run(serve())


def test_an_error_is_freed_without_the_garbage_collector(store: Store) -> None:
    """The collector stops every request, the longer the more there is."""
    served = on_event_loop(store)

    def refused() -> weakref.ref[Exception]:
        try:
            PlaceOrder(served)("jo", ["nothing"])
        except Exception as error:  # noqa: BLE001 - only its lifetime matters
            return weakref.ref(error)
        raise AssertionError

    async def serve() -> weakref.ref[Exception]:
        return await Suspendable(refused)()

    with no_garbage_collection():
        error = asyncio.run(serve())
        wait_for(lambda: error() is None)  # the writer thread may still leave the batch


def test_the_pool_runs_what_waits_before_it_ends() -> None:
    pool = ThreadPoolStore(MemoryStore())
    future = pool.submit(lambda work: work.users.get_or_add(opening("jo")))
    pool.close()

    assert future.result() == pool.users.get("jo") == User("jo", Decimal(500))
