"""The tables, as migrations. Constraints are a second wall behind the model's rules, never the rule itself."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

from sqlite_utils import Database, Migrations

migrations = Migrations("benefits")

# Money is stored as integer cents. Ascending primary keys append to a B-tree, which is fast in a large file. The primary
# key of order_lines begins with the user, so that one range scan finds what a user owns.
_TABLES = (
    """
    CREATE TABLE products (
        product_id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        price INTEGER NOT NULL CHECK (price BETWEEN 0 AND 999999999999),
        position INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE users (
        user_number INTEGER PRIMARY KEY,
        user_id TEXT NOT NULL UNIQUE,
        opening_balance INTEGER NOT NULL CHECK (opening_balance BETWEEN 0 AND 999999999999),
        balance INTEGER NOT NULL CHECK (balance BETWEEN 0 AND opening_balance)
    ) STRICT
    """,
    """
    CREATE TABLE orders (
        order_number INTEGER PRIMARY KEY,
        user_number INTEGER NOT NULL REFERENCES users,
        total INTEGER NOT NULL CHECK (total BETWEEN 0 AND 999999999999),
        placed_at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE order_lines (
        user_number INTEGER NOT NULL REFERENCES users,
        product_id TEXT NOT NULL REFERENCES products,
        order_number INTEGER NOT NULL REFERENCES orders,
        position INTEGER NOT NULL,
        price INTEGER NOT NULL CHECK (price BETWEEN 0 AND 999999999999),
        PRIMARY KEY (user_number, product_id)
    ) STRICT, WITHOUT ROWID
    """,
)

_COUNT = """
    CREATE TRIGGER product_{} AFTER {} ON products
    BEGIN UPDATE catalogue SET version = version + 1; END
    """


@migrations()
def create_tables(db: Database) -> None:
    """Create users, the catalogue and the order book."""
    for statement in _TABLES:
        db.execute(statement)


@migrations()
def number_the_catalogue(db: Database) -> None:
    """Give the catalogue a version number, so that a reader knows whether its copy is current."""
    db.execute("CREATE TABLE catalogue (version INTEGER NOT NULL) STRICT")
    db.execute("INSERT INTO catalogue VALUES (1)")


@migrations()
def count_every_change_of_the_catalogue(db: Database) -> None:
    """Count in triggers, so that a price that was changed by hand is noticed too."""
    for name, change in ("added", "INSERT"), ("changed", "UPDATE"), ("removed", "DELETE"):
        db.execute(_COUNT.format(name, change))


@migrations()
def retire_products(db: Database) -> None:
    """Keep the operator's signature with each product that was retired."""
    db.execute("ALTER TABLE products ADD COLUMN retired_by TEXT")
    db.execute(
        "ALTER TABLE products ADD COLUMN retired_at TEXT CHECK ((retired_at IS NULL) = (retired_by IS NULL))"
    )
    db.execute("ALTER TABLE products ADD COLUMN retired_note TEXT NOT NULL DEFAULT ''")


_GRANTS = """
    CREATE TABLE grants (
        user_number INTEGER NOT NULL REFERENCES users,
        reference TEXT NOT NULL,
        position INTEGER NOT NULL,
        amount INTEGER NOT NULL CHECK (amount BETWEEN -999999999999 AND 999999999999),
        given_by TEXT NOT NULL,
        given_at TEXT NOT NULL,
        note TEXT NOT NULL,
        PRIMARY KEY (user_number, reference)
    ) STRICT, WITHOUT ROWID
    """
# An opening grant gets the time of the user's first order, or of the migration if there is none.
_OPENING_GRANTS = """
    INSERT INTO grants
    SELECT user_number, 'opening', 0, granted, 'benefits', coalesce(first, ?), ''
    FROM users LEFT JOIN (SELECT user_number, min(placed_at) AS first FROM orders GROUP BY user_number)
    USING (user_number)
    """


@migrations()
def grant_money(db: Database) -> None:
    """Make the opening balance the first grant. A user has a column with the sum of all.

    A service of the earlier version finds its column no longer. So it can't add a user who has no grant.
    """
    db.execute("ALTER TABLE users RENAME COLUMN opening_balance TO granted")
    db.execute(_GRANTS)
    db.execute(_OPENING_GRANTS, [datetime.now(UTC).isoformat()])


_CANCELLED_LINES = """
    CREATE TABLE cancelled_lines (
        user_number INTEGER NOT NULL REFERENCES users,
        order_number INTEGER NOT NULL REFERENCES orders,
        position INTEGER NOT NULL,
        product_id TEXT NOT NULL REFERENCES products,
        name TEXT NOT NULL,
        price INTEGER NOT NULL CHECK (price BETWEEN 0 AND 999999999999),
        PRIMARY KEY (user_number, order_number, position)
    ) STRICT, WITHOUT ROWID
    """


@migrations()
def cancel_orders(db: Database) -> None:
    """Let orders be cancelled, and keep the name of a product in each line; earlier lines get the name of today.

    The lines of a cancelled order move to a table of their own, so that the key of ``order_lines`` goes on making it
    impossible to own a product twice.
    """
    db.execute("ALTER TABLE orders ADD COLUMN cancelled_by TEXT")
    db.execute(
        "ALTER TABLE orders ADD COLUMN cancelled_at TEXT CHECK ((cancelled_at IS NULL) = (cancelled_by IS NULL))"
    )
    db.execute("ALTER TABLE orders ADD COLUMN cancelled_note TEXT NOT NULL DEFAULT ''")
    db.execute("ALTER TABLE order_lines ADD COLUMN name TEXT NOT NULL DEFAULT ''")
    db.execute(
        "UPDATE order_lines SET name ="
        # A product may have been deleted by hand.
        " coalesce((SELECT name FROM products WHERE product_id = order_lines.product_id), product_id)"
    )
    db.execute(_CANCELLED_LINES)


with closing(Database(memory=True)) as _empty:
    MIGRATION_NAMES = frozenset(migration.name for migration in migrations.pending(_empty))
"""The migrations of this version. A file with any other was written by a newer version."""
