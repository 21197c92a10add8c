"""Users, products and orders in a PostgreSQL database: the ports of ``benefits_core`` over psycopg."""

from benefits_postgres.audit import audit_database
from benefits_postgres.connection import shown
from benefits_postgres.copying import read_company, write_company
from benefits_postgres.store import PostgresStore
from benefits_postgres.user_ids import fold_user_ids

__all__ = ["PostgresStore", "audit_database", "fold_user_ids", "read_company", "shown", "write_company"]
