"""The command line: what it says, and with which exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benefits_core import Product
from benefits_service.runtime import server
from benefits_sqlite import SqliteStore
from contract.running import free_port
from unit.command import Command

SEED = Path(__file__).parents[2] / "seed.json"


def catalogue(database: str = "benefits.db") -> tuple[Product, ...]:
    """Return the catalogue of a database in this folder."""
    with SqliteStore(database) as store:
        return store.products.list_all()


class TestHelp:
    def test_without_arguments_it_shows_its_help(self, benefits: Command) -> None:
        status, _, err = benefits()

        assert status == 2
        assert "Commands:" in err

    @pytest.mark.parametrize("command", [[], ["seed"], ["serve"]])
    def test_every_command_has_help(self, benefits: Command, command: list[str]) -> None:
        status, out, _ = benefits(*command, "--help")

        assert status == 0
        assert out.startswith("Usage: benefits")

    def test_it_knows_its_version(self, benefits: Command) -> None:
        assert benefits("--version")[:2] == (0, "benefits, version 0.1.0\n")


class TestSeed:
    def test_the_catalogue_takes_the_products_and_the_order_of_the_file(self, benefits: Command) -> None:
        assert benefits("seed", SEED) == (0, f"benefits.db offers the 15 products of {SEED}.\n", "")
        assert [product.product_id for product in catalogue()][:3] == ["netflix", "spotify", "amazon-prime"]

    def test_on_a_terminal_it_shows_how_far_it_is(
        self, benefits: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        many = {"products": [{"id": str(number), "name": "N", "price": 1} for number in range(1000)]}
        Path("many.json").write_text(json.dumps(many), encoding="utf-8")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        _, out, _ = benefits("seed", "many.json")

        assert out.count("Reading") > 1
        assert "100%" in out

    def test_run_twice_it_changes_nothing(self, benefits: Command) -> None:
        benefits("seed", SEED)
        before = Path("benefits.db").read_bytes(), catalogue()
        benefits("seed", SEED)

        assert (Path("benefits.db").read_bytes(), catalogue()) == before

    def test_the_database_is_chosen_by_option_or_environment(
        self, benefits: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BENEFITS_DATABASE", "environment.db")
        benefits("seed", SEED)
        benefits("seed", SEED, "--database", "option.db")

        assert sorted(path.name for path in Path().glob("*.db")) == ["environment.db", "option.db"]

    def test_an_empty_list_is_valid(self, benefits: Command) -> None:
        Path("none.json").write_text('{"products": []}')

        assert benefits("seed", "none.json")[0] == 0

    def test_if_empty_leaves_a_catalogue_alone(self, benefits: Command) -> None:
        Path("one.json").write_text('{"products": [{"id": "a", "name": "A", "price": 1}]}')
        benefits("seed", "one.json", "--if-empty")
        assert benefits("seed", SEED, "--if-empty") == (0, "benefits.db has a catalogue already.\n", "")

        assert [product.product_id for product in catalogue()] == ["a"]

    @pytest.mark.parametrize(
        ("entries", "complaint"),
        [
            ([{"id": "a", "name": "A"}], "Object missing required field `price` - at `$.products[0]`"),
            (
                [{"id": "a", "name": "A", "price": "1"}],
                "Expected `int | decimal`, got `str` - at `$.products[0].price`",
            ),
            (
                [{"id": "b", "name": "B", "price": 1}, {"id": "a", "name": "A", "price": -1}],
                (
                    "price must be a Decimal from 0 to 9,999,999,999.99 with at most two decimals,"
                    " not Decimal('-1') - at `$.products[1]`"
                ),
            ),
            ([{"id": "a", "name": "A", "price": 1}, 2], "Expected `object`, got `int` - at `$.products[1]`"),
            (
                [{"id": "a", "name": "A", "price": 1}, {"id": "a", "name": "A", "price": 2}],
                "The id 'a' is there twice - at `$.products[1]`",
            ),
        ],
    )
    def test_a_bad_file_changes_nothing_and_says_which_entry_and_why(
        self, benefits: Command, entries: list[object], complaint: str
    ) -> None:
        Path("bad.json").write_text(json.dumps({"products": entries}))

        assert benefits("seed", "bad.json") == (2, "", f"benefits: bad.json: {complaint}\n")
        assert not Path("benefits.db").exists()

    def test_a_number_beyond_all_measure_is_one_line(self, benefits: Command) -> None:
        Path("bad.json").write_text(
            '{"products": [{"id": "a", "name": "A", "price": 1e99999999999999999999}]}'
        )

        assert benefits("seed", "bad.json") == (2, "", "benefits: bad.json: A number is out of range\n")

    def test_a_file_that_is_not_there_is_one_line(self, benefits: Command) -> None:
        assert benefits("seed", "nowhere.json") == (
            2,
            "",
            "benefits: nowhere.json: No such file or directory\n",
        )

    def test_a_database_that_can_not_be_used_is_one_line(self, benefits: Command) -> None:
        Path("notes.txt").write_text("Not a database, whatever its size. " * 100)

        assert benefits("seed", SEED, "--database", "notes.txt") == (
            2,
            "",
            "benefits: notes.txt: it is not a database; name another file\n",
        )


class TestServe:
    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--port", "http"], "'http' is not a valid integer range."),
            (["--port", "0"], "0 is not in the range 1<=x<=65535."),
            (["--workers", "0"], "0 is not in the range 1<=x<=64."),
            (["--opening-balance", "much"], "'much' is not an amount of 0 to 9,999,999,999.99, to the cent."),
            (["--opening-balance", "-1"], "'-1' is not an amount of 0 to 9,999,999,999.99, to the cent."),
            (
                ["--cors-origin", "https://*.example"],
                "is not an origin such as https://benefits.example.com, nor *.",
            ),
            (["--frontend", "build"], "build has no index.html; name what `npm run build` has made."),
            (
                ["--identity-header", "X_User"],
                "'X_User' is no header name of letters, digits and hyphens, such as X-Forwarded-User.",
            ),
            (["--speed", "9"], "No such option '--speed'."),
            (["--host", "192.0.2.1"], "can't listen at 192.0.2.1 port 4000: Cannot assign requested address"),
            (["--host", "a..b"], "can't listen at a..b port 4000: It is not the name of a host"),
            (["--host", "no such host"], "can't listen at no such host port 4000: Name or service not known"),
        ],
    )
    def test_a_bad_value_is_one_line(self, benefits: Command, options: list[str], complaint: str) -> None:
        status, out, err = benefits("serve", *options)

        assert (status, out) == (2, "")
        assert err.startswith("benefits: ")
        assert err.endswith(f"{complaint}\n")
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        ("variable", "value", "complaint"),
        [
            ("BENEFITS_CORS_ORIGIN", "https://a.example b.example", "'b.example' is not an origin"),
            ("BENEFITS_IDENTITY_HEADER", "", "'' is no header name"),
        ],
    )
    def test_a_bad_value_in_the_environment_is_too(
        self, benefits: Command, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, complaint: str
    ) -> None:
        monkeypatch.setenv(variable, value)

        status, out, err = benefits("serve", "--host", "192.0.2.1")  # where it could not listen anyway

        assert (status, out, err.count("\n")) == (2, "", 1)
        assert complaint in err

    def test_it_says_who_is_believed_where_it_says_that_it_serves(
        self, benefits: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Standard error is for log lines, in JSON."""
        monkeypatch.setattr(server, "serve", lambda *_: None)

        status, out, err = benefits("serve", "--host", "0.0.0.0", "--port", free_port())  # noqa: S104 - it warns of that

        assert (status, err) == (0, "")
        assert out.endswith(
            "Without --identity-header, whoever can reach this address can see and order for anybody.\n"
        )


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path) -> None:
    endless = tmp_path / "endless.json"
    os.mkfifo(endless)
    command = [sys.executable, "-m", "benefits_service", "seed", str(endless)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with endless.open("wb"):  # opened by both ends only once the command reads
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)

    assert (process.returncode, err.strip()) == (130, "")


@pytest.mark.parametrize("package", ["click", "flask", "msgspec"])
def test_a_missing_package_is_named_in_one_line(package: str) -> None:
    hide = f"import sys; sys.modules[{package!r}] = None; from benefits_service import main; main()"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr == (
        f"benefits: the package {package} is not installed; run: pip install 'benefits[service]'\n"
    )
