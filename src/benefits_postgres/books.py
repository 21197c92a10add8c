"""The books of a database: whether orders, balances, grants and the catalogue agree, and all texts are valid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from benefits_core.model import Product, Signature
from benefits_core.values import normal_reference, normal_user_id

_LINES: Final = """(
        SELECT *, false AS moved FROM order_lines UNION ALL SELECT *, true FROM cancelled_lines
    ) AS lines"""

# Queries for rows that break a rule, by a sentence about each row. A logical replica does not check foreign keys.
_RULES: Final = {
    "user {!r}: the {} cents granted are not the balance of {} and the {} of all orders": """
        SELECT user_id, granted, balance, coalesce(spent, 0) FROM users LEFT JOIN (
            SELECT user_number, sum(total) AS spent FROM orders WHERE cancelled_at IS NULL GROUP BY 1
        ) AS sums USING (user_number) WHERE granted <> balance + coalesce(spent, 0)""",
    "user {!r}: the {} cents granted are not the {} of all grants": """
        SELECT user_id, granted, coalesce(given, 0) FROM users LEFT JOIN (
            SELECT user_number, sum(amount) AS given FROM grants GROUP BY 1
        ) AS sums USING (user_number) WHERE granted <> coalesce(given, 0)""",
    "user {!r}: there is no opening grant before all others": """
        SELECT user_id FROM users LEFT JOIN grants USING (user_number) GROUP BY user_number, user_id
        HAVING count(*) FILTER (WHERE reference = 'opening' AND position = 0 AND amount >= 0) <> 1
        OR min(position) FILTER (WHERE reference <> 'opening') <= 0""",
    "order {}: the total of {} cents is not the {} of its lines": f"""
        SELECT order_number, total, coalesce(paid, 0) FROM orders LEFT JOIN (
            SELECT order_number, sum(price) AS paid FROM {_LINES} GROUP BY 1
        ) AS sums USING (order_number) WHERE total <> coalesce(paid, 0)""",
    "order {}: lines of it are missing": f"""
        SELECT order_number FROM orders LEFT JOIN {_LINES} USING (order_number) GROUP BY 1
        HAVING min(position) IS DISTINCT FROM 0 OR max(position) + 1 <> count(*)
        OR count(DISTINCT position) <> count(*)""",
    "order {}: {!r} is in {} of its lines": """
        SELECT order_number, product_id, count(*) FROM cancelled_lines GROUP BY 1, 2 HAVING count(*) > 1""",
    "order {}: the line of {!r} {}": f"""
        SELECT order_number, product_id, CASE WHEN lines.user_number <> orders.user_number THEN 'is another user''s'
            WHEN moved THEN 'is among those of cancelled orders' ELSE 'is not among those of cancelled orders' END
        FROM {_LINES} JOIN orders USING (order_number)
        WHERE lines.user_number <> orders.user_number OR moved <> (cancelled_at IS NOT NULL)""",
    "order {}: {!r} is no moment": """
        SELECT order_number, placed_at::text FROM orders
        WHERE placed_at NOT BETWEEN '0001-01-01' AND '9999-12-31 23:59:59.999999'""",
    "table catalogue: it has {} rows, and not one": "SELECT count(*) FROM catalogue HAVING count(*) <> 1",
    **{
        f"table {table}: its {column} {{!r}} is not in table {other}": f"""
        SELECT {column} FROM {table} EXCEPT SELECT {column} FROM {other}"""
        for column, other, tables in (
            ("user_number", "users", ("grants", "orders")),
            ("product_id", "products", ("order_lines", "cancelled_lines")),
            ("order_number", "orders", ("order_lines", "cancelled_lines")),
        )
        for table in tables
    },
}


def _is_product(product_id: str, name: str) -> bool:
    return bool(Product(product_id, name, Decimal(0)))


def _is_signature(_: object, by: str, at: str | None, note: str) -> bool:
    return bool(Signature(by, datetime.fromisoformat(at or ""), note))


def _is_grant(_: object, reference: str, *signature: str) -> bool:
    return normal_reference(reference) == reference and _is_signature(reference, *signature)


# Queries for texts, by a sentence about each row of them that the core finds invalid.
_TEXTS: Final[dict[str, tuple[Callable[..., bool], str]]] = {
    "user number {}: {!r} is no user id": (
        lambda _, user_id: normal_user_id(user_id) == user_id,
        "SELECT user_number, user_id FROM users",
    ),
    "product {!r}: its id or its name {!r} is none": (_is_product, "SELECT product_id, name FROM products"),
    "product {!r}: a line has its name {!r}, which is none": (
        _is_product,
        f"SELECT DISTINCT product_id, name FROM {_LINES}",
    ),
    "product {!r}: the signature of its retirement is invalid: {!r}, {!r}": (
        _is_signature,
        """
        SELECT product_id, retired_by, retired_at::text, retired_note FROM products
        WHERE retired_by IS NOT NULL OR retired_at IS NOT NULL""",
    ),
    "order {}: the signature of its cancellation is invalid: {!r}, {!r}": (
        _is_signature,
        """
        SELECT order_number, cancelled_by, cancelled_at::text, cancelled_note FROM orders
        WHERE cancelled_by IS NOT NULL OR cancelled_at IS NOT NULL""",
    ),
    "user {!r}: the grant {!r} has an invalid reference or signature: {!r}, {!r}": (
        _is_grant,
        """
        SELECT user_id, reference, given_by, given_at::text, note FROM grants JOIN users USING (user_number)""",
    ),
}


def audit_books(rows: Callable[[str], Iterator[tuple[Any, ...]]]) -> Iterator[str]:
    """Return what is wrong in the books of a database of this version, a sentence each.

    :param rows: returns the rows of a query. Its session has the timezone UTC, and shows dates as ISO does.
    """
    for sentence, query in _RULES.items():
        yield from [sentence.format(*row) for row in rows(query)]
    for sentence, (check, query) in _TEXTS.items():
        yield from [sentence.format(*row) for row in rows(query) if not _is_valid(check, row)]


def _is_valid(check: Callable[..., bool], row: tuple[Any, ...]) -> bool:
    try:
        return check(*row)
    except ValueError:  # which InvalidValueError is too
        return False
