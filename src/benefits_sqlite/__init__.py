"""Users, products and orders in one SQLite file: the ports of ``benefits_core`` over sqlite-utils."""

from benefits_sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
