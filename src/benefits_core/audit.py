"""For authors of stores: what an audit of a database has found."""

from __future__ import annotations

import attrs


@attrs.frozen
class Audit:
    """What an audit has found.

    :param findings: what is wrong, a sentence each; none if all is well.
    :param remarks: what is worth knowing and not wrong, a sentence each.
    :param users: how many users there are, and likewise orders and products.
    """

    findings: tuple[str, ...]
    remarks: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    users: int = 0
    orders: int = 0
    products: int = 0
