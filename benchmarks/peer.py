"""What orders over PostgreSQL are measured against: the same API by Flask, SQLAlchemy 2 and psycopg, as their documentation shows.

It has the rules of an order, the SQL types, keys and constraints of ``benefits_postgres``, and the answers of this project's API.
It needs no more tables and columns than orders and users do. It does not normalise user ids, and has no CORS headers, request
ids, logs or metrics: all of that would make it slower.

How it is tuned: gunicorn runs as many worker processes as the other servers have, of the class ``gthread``, each with
``THREADS`` threads, so that many transactions can share a flush to the disk. The connection pool of a worker has a
connection for each thread: none is opened during a measurement, and no thread waits for one. Connections are kept alive for
as long as those of the other servers. Psycopg prepares the statements in the server, as it does by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeVar

from flask import Flask, request
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Engine,
    ForeignKey,
    Text,
    create_engine,
    make_url,
    select,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

THREADS: Final = 16
"""How many threads, and connections to PostgreSQL, each worker process has."""

_OPENING_BALANCE: Final = 50_000  # in cents, like all amounts in the tables
_MONEY: Final = "BETWEEN 0 AND 999999999999"

_Result = TypeVar("_Result")


class Base(DeclarativeBase):  # type: ignore[misc] # mypy does not follow imports of SQLAlchemy: see pyproject.toml
    """The base class of the models."""

    type_annotation_map: ClassVar = {
        int: BigInteger,
        str: Text(collation="C"),
        datetime: DateTime(timezone=True),
    }


class Product(Base):
    """What can be ordered."""

    __tablename__ = "products"
    __table_args__ = (CheckConstraint(f"price {_MONEY}"),)

    product_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]
    position: Mapped[int]


class User(Base):
    """An employee."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(f"granted {_MONEY}"),
        CheckConstraint("balance BETWEEN 0 AND granted"),
    )

    user_number: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(unique=True)
    granted: Mapped[int]
    balance: Mapped[int]
    grants: Mapped[list[Grant]] = relationship(back_populates="user")
    lines: Mapped[list[OrderLine]] = relationship(
        primaryjoin="User.user_number == foreign(OrderLine.user_number)",
        order_by="[OrderLine.order_number, OrderLine.position]",
        back_populates="user",
    )


class Grant(Base):
    """Money that was given to a user."""

    __tablename__ = "grants"
    __table_args__ = (CheckConstraint("amount BETWEEN -999999999999 AND 999999999999"),)

    user_number: Mapped[int] = mapped_column(ForeignKey("users.user_number"), primary_key=True)
    reference: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    amount: Mapped[int]
    given_by: Mapped[str]
    given_at: Mapped[datetime]
    note: Mapped[str]
    user: Mapped[User] = relationship(back_populates="grants")


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    __table_args__ = (CheckConstraint(f"total {_MONEY}"),)

    order_number: Mapped[int] = mapped_column(primary_key=True)
    user_number: Mapped[int] = mapped_column(ForeignKey("users.user_number"))
    total: Mapped[int]
    placed_at: Mapped[datetime]
    user: Mapped[User] = relationship()
    lines: Mapped[list[OrderLine]] = relationship(back_populates="order")


class OrderLine(Base):
    """A product of an order. The primary key makes it impossible to own a product twice."""

    __tablename__ = "order_lines"
    __table_args__ = (CheckConstraint(f"price {_MONEY}"),)

    user_number: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[str] = mapped_column(ForeignKey("products.product_id"), primary_key=True)
    order_number: Mapped[int] = mapped_column(ForeignKey("orders.order_number"))
    position: Mapped[int]
    name: Mapped[str]
    price: Mapped[int]
    user: Mapped[User] = relationship(
        primaryjoin="User.user_number == foreign(OrderLine.user_number)", back_populates="lines"
    )
    order: Mapped[Order] = relationship(back_populates="lines")


class _RefusedError(Exception):
    """The order is refused; the message is the code of the error."""


def _engine(url: str) -> Engine:
    return create_engine(make_url(url).set(drivername="postgresql+psycopg"), pool_size=THREADS)


def create_tables(url: str) -> None:
    """Create the tables in an empty database.

    :param url: the database, as libpq takes it.
    """
    engine = _engine(url)
    Base.metadata.create_all(engine)
    engine.dispose()


def create_app(url: str) -> Flask:
    """Return the application, as a worker of gunicorn serves it.

    :param url: the database, as libpq takes it.
    """
    app = Flask(__name__)
    sessions = sessionmaker(_engine(url))

    def in_session(run: Callable[[Session], _Result]) -> _Result:
        try:
            with sessions.begin() as session:
                return run(session)
        except IntegrityError:  # another request has added the user at the same time, so now there is one
            with sessions.begin() as session:
                return run(session)

    @app.errorhandler(_RefusedError)
    def refused(error: _RefusedError) -> tuple[dict[str, str], int]:
        return {"error": str(error)}, 400

    @app.get("/api/products")
    def products() -> dict[str, Any]:
        return in_session(_products)

    @app.get("/api/users/<user_id>")
    def user(user_id: str) -> dict[str, Any]:
        return in_session(lambda session: _user(session, user_id))

    @app.post("/api/orders")
    def order() -> dict[str, Any]:
        draft = request.get_json()["order"]
        return in_session(lambda session: _order(session, draft["user_id"], draft["items"]))

    return app


def _products(session: Session) -> dict[str, Any]:
    found = session.scalars(select(Product).order_by(Product.position))
    return {
        "products": [
            {"id": product.product_id, "name": product.name, "price": _amount(product.price)}
            for product in found
        ]
    }


def _user(session: Session, user_id: str) -> dict[str, Any]:
    query = select(User).where(User.user_id == user_id).options(selectinload(User.lines))
    user = session.scalars(query).one_or_none() or _new_user(session, user_id)
    data = {"balance": _amount(user.balance), "product_ids": [line.product_id for line in user.lines]}
    return {"user": {"user_id": user.user_id, "data": data}}


def _order(session: Session, user_id: str, items: Sequence[str]) -> dict[str, Any]:
    found = session.scalars(select(Product).where(Product.product_id.in_(items)))
    basket = _basket(items, {product.product_id: product for product in found})
    query = select(User).where(User.user_id == user_id).with_for_update()
    user = session.scalars(query).one_or_none() or _new_user(session, user_id)
    if {product.product_id for product in basket} & {line.product_id for line in user.lines}:
        raise _RefusedError("products_already_purchased")
    total = sum(product.price for product in basket)
    if total > user.balance:
        raise _RefusedError("insufficient_balance")
    user.balance -= total
    order = Order(user=user, total=total, placed_at=datetime.now(UTC))
    order.lines = [
        OrderLine(
            user=user, product_id=product.product_id, position=place, name=product.name, price=product.price
        )
        for place, product in enumerate(basket)
    ]
    session.add(order)
    session.flush()  # which gives the order its number
    data = {"items": [product.product_id for product in basket], "total": _amount(total)}
    return {"order": {"order_id": str(order.order_number), "data": data}}


def _new_user(session: Session, user_id: str) -> User:
    opening = Grant(
        reference="opening",
        position=0,
        amount=_OPENING_BALANCE,
        given_by="benefits",
        given_at=datetime.now(UTC),
        note="",
    )
    user = User(user_id=user_id, granted=_OPENING_BALANCE, balance=_OPENING_BALANCE, grants=[opening])
    session.add(user)
    return user


def _basket(items: Sequence[str], on_offer: Mapping[str, Product]) -> list[Product]:
    wanted = list(dict.fromkeys(items))
    if not wanted or not on_offer.keys() >= set(wanted):
        raise _RefusedError("products_not_found")
    return [on_offer[product_id] for product_id in wanted]


def _amount(cents: int) -> int | float:
    return cents / 100 if cents % 100 else cents // 100
