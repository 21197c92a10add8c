"""The tables, as migrations. Constraints are a second wall behind the model's rules, never the rule itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benefits_core.errors import StorageUnavailableError
from benefits_postgres.connection import Database

# Money is stored as integer cents. The key of order_lines makes it impossible to own a product twice. The lines of a cancelled
# order are in a table of their own.
_TABLES: Final = """
    CREATE TABLE products (
        product_id text COLLATE "C" PRIMARY KEY,
        name text NOT NULL,
        price bigint NOT NULL CHECK (price BETWEEN 0 AND 999999999999),
        position bigint NOT NULL,
        retired_by text,
        retired_at timestamptz,
        retired_note text NOT NULL,
        CHECK ((retired_at IS NULL) = (retired_by IS NULL))
    );
    CREATE TABLE users (
        user_number bigint PRIMARY KEY,
        user_id text COLLATE "C" NOT NULL UNIQUE,
        granted bigint NOT NULL CHECK (granted BETWEEN 0 AND 999999999999),
        balance bigint NOT NULL CHECK (balance BETWEEN 0 AND granted)
    ) WITH (fillfactor = 80);
    CREATE TABLE grants (
        user_number bigint NOT NULL REFERENCES users,
        reference text COLLATE "C" NOT NULL,
        position bigint NOT NULL,
        amount bigint NOT NULL CHECK (amount BETWEEN -999999999999 AND 999999999999),
        given_by text NOT NULL,
        given_at timestamptz NOT NULL,
        note text NOT NULL,
        PRIMARY KEY (user_number, reference)
    );
    CREATE TABLE orders (
        order_number bigint PRIMARY KEY,
        user_number bigint NOT NULL REFERENCES users,
        total bigint NOT NULL CHECK (total BETWEEN 0 AND 999999999999),
        placed_at timestamptz NOT NULL,
        cancelled_by text,
        cancelled_at timestamptz,
        cancelled_note text NOT NULL,
        CHECK ((cancelled_at IS NULL) = (cancelled_by IS NULL))
    );
    CREATE TABLE order_lines (
        user_number bigint NOT NULL,
        product_id text COLLATE "C" NOT NULL REFERENCES products,
        order_number bigint NOT NULL REFERENCES orders,
        position bigint NOT NULL,
        name text NOT NULL,
        price bigint NOT NULL CHECK (price BETWEEN 0 AND 999999999999),
        PRIMARY KEY (user_number, product_id)
    );
    CREATE TABLE cancelled_lines (
        user_number bigint NOT NULL,
        product_id text COLLATE "C" NOT NULL REFERENCES products,
        order_number bigint NOT NULL REFERENCES orders,
        position bigint NOT NULL,
        name text NOT NULL,
        price bigint NOT NULL CHECK (price BETWEEN 0 AND 999999999999),
        PRIMARY KEY (user_number, order_number, position)
    );
    CREATE SEQUENCE user_numbers;
    CREATE SEQUENCE grant_positions;
    CREATE SEQUENCE order_numbers;

    -- The version tells a reader whether its copy is current. A price that was changed by hand counts too, whatever the
    -- search_path was then. It is no number: after a failover, the new server could count to the same one for another
    -- catalogue.
    CREATE TABLE catalogue (version uuid NOT NULL);
    INSERT INTO catalogue VALUES (gen_random_uuid());
    CREATE FUNCTION renew_version_of_catalogue() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN
            EXECUTE format(''UPDATE %I.catalogue SET version = gen_random_uuid()'', TG_TABLE_SCHEMA);
            RETURN NULL;
        END';
    CREATE TRIGGER catalogue_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON products
        FOR EACH STATEMENT EXECUTE FUNCTION renew_version_of_catalogue();

    -- The last batch that each writer has begun. See the module transaction.
    CREATE TABLE writers (
        writer text PRIMARY KEY,
        batch bigint NOT NULL,
        begun_at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 50);
    """

MIGRATIONS: Final = {"create_tables": _TABLES}
"""The statements of each migration, by its name, in their sequence. Once published, they never change."""

_APPLIED: Final = "SELECT name FROM benefits_migrations"

# Whoever gets the lock sees, in the statement after it, what those before have done. It ends with the transaction, also when
# this process is killed.
_BEGIN: Final = """
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT set_config('lock_timeout', '10min', true), set_config('statement_timeout', '0', true),
           set_config('idle_in_transaction_session_timeout', '1min', true);
    SELECT pg_advisory_xact_lock(hashtextextended('benefits_migrations', hashtext(current_schema())));
    CREATE TABLE IF NOT EXISTS benefits_migrations (
        name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()
    );
    """


def pending(database: Database) -> list[str]:
    """Return the names of the migrations that a database needs.

    :raises StorageUnavailableError: it has some that this version does not know.
    """
    [[[known]]] = database.run("SELECT to_regclass('benefits_migrations') IS NOT NULL")
    applied = {name for (name,) in database.run(_APPLIED)[0]} if known else set()
    if unknown := applied - MIGRATIONS.keys():
        raise StorageUnavailableError(
            f"it was written by a newer version ({', '.join(sorted(unknown))}); use that version"
        )
    return [name for name in MIGRATIONS if name not in applied]


def prepare(database: Database, *, create: bool, announce: Callable[[], object] = lambda: None) -> None:
    """Bring a database up to date as needed.

    :param create: whether a database without tables gets them.
    :param announce: called before a database of an earlier version is brought up to date.
    :raises StorageUnavailableError: it has none and gets none, or is of a newer version.
    """
    if needed := pending(database):
        if len(needed) < len(MIGRATIONS):
            announce()
        elif not create:
            raise StorageUnavailableError("it has no tables of this program; benefits seed creates them")
        migrate(database)


def migrate(database: Database) -> None:
    """Bring a database up to date, all in one transaction. Any number of processes may do it at once."""
    database.run(_BEGIN, limit=None)
    try:
        for name in pending(database):
            database.run(MIGRATIONS[name], limit=None)
            database.run("INSERT INTO benefits_migrations VALUES (%s)", [name])
        database.run("COMMIT")
    except BaseException:
        database.close()  # which ends the transaction, also one that is broken
        raise
