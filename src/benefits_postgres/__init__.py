"""Users, products and orders in a PostgreSQL database: the ports of ``benefits_core`` over psycopg."""

from benefits_postgres.store import PostgresStore

__all__ = ["PostgresStore"]
