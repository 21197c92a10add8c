"""Compositions other than the product's, served by the product's runtime: a program that tests start.

``python -m contract.served KIND PORT`` serves one of ``BUILDS``.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import attrs
from flask import Flask, Response, request

from benefits_core import (
    OPENING_BALANCE,
    BenefitsError,
    Grant,
    MemoryStore,
    OfferProducts,
    Product,
    ProductsNotFoundError,
    Store,
    UnitOfWork,
    UseCases,
    User,
)
from benefits_http.app import DEVELOPMENT_ORIGINS
from benefits_http.blueprint import benefits_blueprint
from benefits_http.errors import ERROR_SPECS, ErrorSpec
from benefits_service.composition import build_app
from benefits_service.runtime import server
from benefits_service.runtime.address import claim
from benefits_service.runtime.asgi import ASGIApplication, as_asgi
from benefits_service.runtime.event_loop import on_event_loop
from benefits_service.settings import Settings

NETFLIX = Product("netflix", "Netflix", Decimal("75.99"))


def open_memory_store() -> Store:
    """Return a store that implements the ports, and knows nothing of event loops."""
    store = MemoryStore()
    OfferProducts(store)([NETFLIX])
    return store


def product_composition() -> ASGIApplication:
    """Return the product's own composition, over that store."""
    settings = Settings(
        opening_balance=Decimal(500),
        cors_origins=DEVELOPMENT_ORIGINS,
        frontend=None,
        identity_header=None,
        log_paths=False,
    )
    return build_app(settings, open_memory_store)


class GiftRefusedError(BenefitsError):
    """A gift to the giver: an error that the product does not have."""


@attrs.frozen
class GiveProduct:
    """Buy a product for another user: a use case that the product does not have."""

    store: Store

    def __call__(self, giver: str, receiver: str, product_id: str) -> User:
        """Return the receiver.

        :raises GiftRefusedError: the giver is the receiver.
        """
        opening = Grant.opening(receiver, OPENING_BALANCE, datetime.now(UTC))

        def give(work: UnitOfWork) -> User:
            user = work.users.get_or_add(opening)
            if giver == receiver:
                raise GiftRefusedError
            found = work.products.find([product_id])
            if not found:
                raise ProductsNotFoundError((product_id,))
            return user

        return self.store.change(give)


def extended_composition() -> ASGIApplication:
    """Return a composition with one more use case, one more error and one more endpoint."""
    store = on_event_loop(open_memory_store())
    ERROR_SPECS[GiftRefusedError] = ErrorSpec(409, "gift_refused")
    give_product = GiveProduct(store)
    blueprint = benefits_blueprint(UseCases.over(store))

    @blueprint.post("/gifts")
    def gifts() -> Response:
        receiver = give_product(request.json["from"], request.json["to"], request.json["product"])
        return Response(receiver.user_id)

    app = Flask("extended", static_folder=None)
    app.register_blueprint(blueprint)
    return as_asgi(app)


BUILDS = {"product": product_composition, "extended": extended_composition}

if __name__ == "__main__":
    kind, port = sys.argv[1:]
    # Named by its module: worker processes can't import what belongs to __main__.
    from contract import served

    with claim("127.0.0.1", int(port)) as address:
        server.serve(partial(served.BUILDS[kind]), address=address, workers=1, keep_alive=server.KEEP_ALIVE)
