"""``benefits check`` of databases that are not quite of this version: earlier ones, newer ones, and tables of other programs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benefits_sqlite import SqliteStore
from contract.builders import with_two_orders
from contract.faults import with_failing, with_mounts
from contract.running import PROGRAM, SEED
from unit.command import Command
from unit.test_migrations import NAMES, database_at

EARLIER = (
    "benefits.db: it is of an earlier version; `benefits serve` or `benefits seed` brings it up to date\n"
)
SOUND = "benefits.db is sound: 2 users, 1 orders, 2 products.\n"

LITESTREAM = """
    CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER);
    CREATE TABLE _litestream_lock (id INTEGER);
    INSERT INTO _litestream_seq VALUES (1, 7);
    """
LITESTREAM_REMARKS = (
    "benefits.db: table _litestream_lock: it is not of this program\n"
    "benefits.db: table _litestream_seq: it is not of this program\n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database of this version: jo has placed the orders 1 and 2."""
    path = tmp_path / "benefits.db"
    with SqliteStore(path) as store:
        with_two_orders(store)
    return path


def by_hand(path: Path, script: str) -> None:
    """Change a database as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.executescript(script)


def overwrite_index(path: Path, name: str) -> None:
    """Replace the page of an index by that of an index without any entry."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [[page]] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [name])
        [[size]] = connection.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes([10, 0, 0, 0, 0, *size.to_bytes(2), 0]) + bytes(size - 8))


class TestEarlierVersion:
    @pytest.mark.parametrize("name", NAMES[:-1])
    @pytest.mark.parametrize("journal", ["DELETE", "WAL"])
    def test_a_sound_one_passes_and_stays_as_it_was(
        self, benefits: Command, tmp_path: Path, name: str, journal: str
    ) -> None:
        path = database_at(tmp_path / "benefits.db", name)
        by_hand(path, f"PRAGMA journal_mode = {journal}")
        before = path.read_bytes()

        assert benefits("check") == (0, EARLIER + SOUND, "")
        assert path.read_bytes() == before

    @pytest.mark.parametrize("name", NAMES[:-1])
    def test_books_that_do_not_balance_are_found(self, benefits: Command, tmp_path: Path, name: str) -> None:
        path = database_at(tmp_path / "benefits.db", name)
        by_hand(path, "UPDATE users SET balance = balance - 1 WHERE user_id = 'jo'")

        finding = (
            "user 'jo': the 50000 cents granted are not the balance of 9999 and the 40000 of all orders\n"
        )
        assert benefits("check") == (1, finding + EARLIER, "")

    def test_its_structure_is_compared_with_its_own_version(self, benefits: Command, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", NAMES[0])
        by_hand(path, "DROP TABLE order_lines")

        finding = "table order_lines: it is not as this version defines it\n"
        assert benefits("check") == (1, finding + EARLIER, "")

    def test_a_structure_that_is_wrong_explains_why_it_can_not_be_brought_up_to_date(
        self, benefits: Command, tmp_path: Path
    ) -> None:
        path = database_at(tmp_path / "benefits.db", NAMES[0])
        by_hand(path, "DROP TABLE products")

        status, out, _ = benefits("check")
        assert status == 1
        assert "table products: it is not as this version defines it\n" in out
        assert "brought up to date: SQLite" not in out

    def test_one_that_can_not_be_brought_up_to_date_is_found(self, benefits: Command, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", NAMES[0])
        by_hand(path, "CREATE TABLE catalogue (mine)")

        finding = "it can't be brought up to date: SQLite: table catalogue already exists\n"
        remark = "benefits.db: table catalogue: it is not of this program\n"
        assert benefits("check") == (1, finding + EARLIER + remark, "")

    def test_it_may_be_in_use(self, benefits: Command, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", NAMES[0])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("BEGIN IMMEDIATE")
            other.execute("UPDATE users SET balance = 0")

            assert benefits("check") == (0, EARLIER + SOUND, "")

    @pytest.mark.parametrize("journal", ["DELETE", "WAL"])
    def test_it_may_be_on_a_disk_that_can_not_be_written_to(self, tmp_path: Path, journal: str) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        path = database_at(folder / "benefits.db", NAMES[0])
        by_hand(path, f"PRAGMA journal_mode = {journal}")
        mounts = f"mount --bind '{folder}' '{folder}'; mount -o remount,bind,ro '{folder}'"
        checked = with_mounts(mounts, *PROGRAM, "check", "--database", path)
        copied = with_mounts(mounts, *PROGRAM, "backup", tmp_path / "copy.db", "--database", path)

        assert (checked.returncode, checked.stderr) == (copied.returncode, copied.stderr) == (0, "")
        assert "is of an earlier version" in checked.stdout

    def test_without_room_for_the_copy_check_does_not_finish_and_says_where_it_needs_room(
        self, tmp_path: Path
    ) -> None:
        path = database_at(tmp_path / "benefits.db", NAMES[0])
        by_hand(
            path,
            "WITH RECURSIVE n(i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 90000)"
            f"INSERT INTO users SELECT i, '{'x' * 40}' || i, 1, 1 FROM n",
        )
        small = tmp_path / "small"
        small.mkdir()
        mounts = f"mount -t tmpfs -o size=100k none '{small}'; export SQLITE_TMPDIR='{small}'"
        done = with_mounts(mounts, *PROGRAM, "check", "--database", path)

        message = "database or disk is full; set SQLITE_TMPDIR to a folder with room for a copy"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"benefits: {path}: {message}\n")


class TestNewerVersion:
    def test_check_says_so_and_does_not_finish(self, benefits: Command, path: Path) -> None:
        by_hand(
            path,
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('benefits', 'later', '');"
            "CREATE TABLE newer (x);",
        )

        message = "benefits: benefits.db: it was written by a newer version (later); use that version\n"
        assert benefits("check") == (2, "", message)


class TestOtherPrograms:
    def test_tables_of_litestream_are_a_remark(self, benefits: Command, path: Path) -> None:
        by_hand(path, LITESTREAM)

        sound = "benefits.db is sound: 1 users, 2 orders, 4 products.\n"
        assert benefits("check") == (0, LITESTREAM_REMARKS + sound, "")

    def test_so_they_are_in_an_earlier_version(self, benefits: Command, tmp_path: Path) -> None:
        path = database_at(tmp_path / "benefits.db", NAMES[0])
        by_hand(path, LITESTREAM)

        assert benefits("check") == (0, EARLIER + LITESTREAM_REMARKS + SOUND, "")

    @pytest.mark.parametrize(
        ("script", "remark"),
        [
            ("CREATE INDEX by_price ON products (price)", "index by_price"),
            ("CREATE VIEW spent AS SELECT sum(total) FROM orders", "view spent"),
            ("CREATE TRIGGER watch AFTER INSERT ON orders BEGIN SELECT 1; END", "trigger watch"),
            ("CREATE VIEW broken AS SELECT * FROM nowhere", "view broken"),
        ],
    )
    def test_an_index_a_view_and_a_trigger_are_a_remark(
        self, benefits: Command, path: Path, script: str, remark: str
    ) -> None:
        by_hand(path, script)

        status, out, _ = benefits("check")
        assert status == 0
        assert out.splitlines()[0] == f"benefits.db: {remark}: it is not of this program"

    @pytest.mark.parametrize(
        "script",
        [
            "ANALYZE",
            # Foreign keys that lead nowhere, and one that leads to a column that is not unique.
            "CREATE TABLE theirs (x REFERENCES nowhere); INSERT INTO theirs VALUES (1)",
            "CREATE TABLE theirs (x REFERENCES orders (total)); INSERT INTO theirs VALUES (1)",
            "CREATE VIRTUAL TABLE theirs USING fts5(x)",
            # A virtual table of a module that this program does not have.
            "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING theirs(x)')",
        ],
    )
    def test_what_other_programs_do_in_their_tables_is_no_finding(
        self, benefits: Command, path: Path, script: str
    ) -> None:
        by_hand(path, script)

        status, out, _ = benefits("check")
        assert (status, out.splitlines()[-1]) == (0, "benefits.db is sound: 1 users, 2 orders, 4 products.")

    def test_another_version_of_sqlite_utils_may_define_its_table_otherwise(
        self, benefits: Command, path: Path
    ) -> None:
        by_hand(path, "ALTER TABLE _sqlite_migrations ADD COLUMN duration REAL")

        assert benefits("check")[0] == 0

    def test_damage_is_found_beside_tables_of_other_programs(self, benefits: Command, path: Path) -> None:
        by_hand(path, LITESTREAM + "DROP TRIGGER product_added;")

        finding = "trigger product_added: it is not as this version defines it\n"
        assert benefits("check") == (1, finding + LITESTREAM_REMARKS, "")

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            (
                "CREATE TABLE notes (t TEXT COLLATE de); CREATE INDEX n ON notes (t)",
                "no such collation sequence: de",
            ),
            ("CREATE TABLE notes (t TEXT); CREATE INDEX n ON notes (sl(t))", "unknown function: sl()"),
        ],
    )
    def test_an_index_that_only_its_own_program_can_read_hides_no_damage(
        self, benefits: Command, path: Path, script: str, reason: str
    ) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.create_collation("de", lambda a, b: (a > b) - (a < b))
            connection.create_function("sl", 1, len, deterministic=True)
            connection.executescript(f"{script}; INSERT INTO notes VALUES ('a'), ('b')")
        _, out, _ = benefits("check")
        remarks = out.removesuffix("benefits.db is sound: 1 users, 2 orders, 4 products.\n")
        assert f"benefits.db: what is not of this program can't be verified: SQLite: {reason}\n" in remarks
        assert remarks != out

        by_hand(path, "INSERT INTO order_lines VALUES (99, 'nope', 77, 0, 5, 'Nope')")
        overwrite_index(path, "sqlite_autoindex_users_1")
        status, out, _ = benefits("check")
        assert status == 1
        assert "SQLite: row 1 missing from index sqlite_autoindex_users_1" in out
        assert "table order_lines: a row refers to a row of products that is not there" in out

    def test_so_it_is_if_what_the_index_needs_has_a_name_that_is_not_utf_8(
        self, benefits: Command, path: Path
    ) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(
                "CREATE TABLE notes (t TEXT COLLATE nocase); CREATE INDEX n ON notes (t);"
                "INSERT INTO notes VALUES ('a'), ('b')"
            )
        sql = b'CREATE TABLE notes (t TEXT COLLATE "d\xff")'.hex()
        by_hand(path, f"UPDATE sqlite_schema SET sql = CAST(x'{sql}' AS TEXT) WHERE name = 'notes'")

        status, out, _ = benefits("check")
        assert (status, out.splitlines()[-1]) == (0, "benefits.db is sound: 1 users, 2 orders, 4 products.")
        assert "can't be verified: it needs something whose name is not UTF-8\n" in out

    def test_an_index_on_a_table_of_ours_that_only_its_own_program_can_write_is_found(
        self, benefits: Command, path: Path
    ) -> None:
        """No product could be added any longer."""
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.create_collation("de", lambda a, b: (a > b) - (a < b))
            connection.execute("CREATE INDEX n ON products (name COLLATE de)")

        status, out, _ = benefits("check")
        assert status == 1
        assert "table products: SQLite: no such collation sequence: de\n" in out

    def test_a_table_whose_name_is_not_utf_8_is_a_remark(self, benefits: Command, path: Path) -> None:
        by_hand(path, "CREATE TABLE theirs (x)")
        name, sql = b"no\xff".hex(), b'CREATE TABLE "no\xff" (x)'.hex()
        by_hand(
            path,
            f"UPDATE sqlite_schema SET name = CAST(x'{name}' AS TEXT), tbl_name = CAST(x'{name}' AS TEXT),"
            f" sql = CAST(x'{sql}' AS TEXT) WHERE name = 'theirs'",
        )

        status, out, _ = benefits("check")
        assert (status, out.splitlines()[-1]) == (0, "benefits.db is sound: 1 users, 2 orders, 4 products.")
        assert "benefits.db: table no\\xff: it is not of this program" in out
        assert benefits("backup", "copy.db")[0] == 0
        assert benefits("seed", SEED)[0] == 0

    def test_a_schema_that_is_not_utf_8_is_damage_and_no_crash(self, benefits: Command, path: Path) -> None:
        content = path.read_bytes()
        place = content.index(b"order_lines")
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])

        assert benefits("check")[0] == 1
        for command in ("backup", "copy.db"), ("seed", SEED), ("serve", "--host", "192.0.2.1"):
            status, _, err = benefits(*command)
            assert (status, err.count("\n")) == (2, 1)


class TestUnfinished:
    @pytest.mark.parametrize("first", [1, 5, 10])
    def test_a_file_that_can_not_be_read_is_not_called_damaged(self, path: Path, first: int) -> None:
        """As over a network. SQLite itself takes EIO, which a broken disk causes, for damage."""
        done = with_failing(
            [f"pread64:error=ETIMEDOUT:when={first}+"], *PROGRAM, "check", "--database", path, only=path
        )

        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"benefits: {path}: disk I/O error\n")

    def test_a_file_that_another_program_has_to_itself_is_not_called_damaged(
        self, benefits: Command, path: Path
    ) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")

            message = "benefits: benefits.db: another program has locked it for 5.0 s\n"
            assert benefits("check") == (2, "", message)

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
    def test_what_is_no_file_is_a_mistake_of_the_user(
        self, benefits: Command, tmp_path: Path, make: object
    ) -> None:
        assert callable(make)
        make(tmp_path / "benefits.db")

        assert benefits("check")[:2] == (2, "")
