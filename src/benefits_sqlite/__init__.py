"""Users, products and orders in one SQLite file: the ports of ``benefits_core`` over sqlite-utils."""

from benefits_core.audit import Audit
from benefits_sqlite.audit import audit_database
from benefits_sqlite.backup import back_up_database
from benefits_sqlite.copying import read_company, write_company
from benefits_sqlite.store import SqliteStore
from benefits_sqlite.user_ids import fold_user_ids

__all__ = [
    "Audit",
    "SqliteStore",
    "audit_database",
    "back_up_database",
    "fold_user_ids",
    "read_company",
    "write_company",
]
