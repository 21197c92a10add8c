"""``benefits serve``: its options, and what it prints."""

from __future__ import annotations

import threading
from pathlib import Path
from threading import Timer

import pytest

from benefits_service.runtime import server
from benefits_service.runtime.liveness import START
from contract.running import reserve_port
from unit.command import Command
from unit.test_migrations import database_at, further


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "http"], "'http' is not a valid integer range."),
        (["--port", "0"], "0 is not in the range 1<=x<=65535."),
        (["--workers", "0"], "0 is not in the range 1<=x<=64."),
        (
            ["--opening-balance", "much"],
            "'much' is not an amount from 0 to 9,999,999,999.99 with at most two decimals.",
        ),
        (
            ["--opening-balance", "-1"],
            "'-1' is not an amount from 0 to 9,999,999,999.99 with at most two decimals.",
        ),
        (
            ["--cors-origin", "https://*.example"],
            "is not an origin such as https://benefits.example.com, nor *.",
        ),
        (["--frontend", "build"], "build has no index.html; name the folder that `npm run build` creates."),
        (
            ["--identity-header", "X_User"],
            "'X_User' is not a header name of letters, digits and hyphens, such as X-Forwarded-User.",
        ),
        (["--root-path", "perks"], "'perks' is not a path such as /benefits."),
        (["--root-path", "/a/../b"], "'/a/../b' is not a path such as /benefits."),
        (
            ["--root-path", "/users/"],
            "'/users/' begins as a path of the service itself; choose one such as /benefits.",
        ),
        (
            ["--root-path", "/api/v1"],
            "'/api/v1' begins as a path of the service itself; choose one such as /benefits.",
        ),
        (["--speed", "9"], "No such option '--speed'."),
        (
            ["--host", "192.0.2.1"],
            "can't listen at 192.0.2.1 port 4000: Cannot assign requested address; see --host and --port",
        ),
        (
            ["--host", "a..b"],
            "can't listen at a..b port 4000: It is not the name of a host; see --host and --port",
        ),
        (
            ["--host", "no such host"],
            "can't listen at no such host port 4000: Name or service not known; see --host and --port",
        ),
    ],
)
def test_an_invalid_option_is_an_error_of_one_line(
    benefits: Command, options: list[str], message: str
) -> None:
    status, out, err = benefits("serve", *options)

    assert (status, out) == (2, "")
    assert err.startswith("benefits: ")
    assert err.removesuffix(" See 'benefits serve --help'.\n").removesuffix("\n").endswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("BENEFITS_CORS_ORIGIN", "https://a.example b.example", "'b.example' is not an origin"),
        ("BENEFITS_IDENTITY_HEADER", "", "'' is not a header name"),
    ],
)
def test_an_invalid_environment_variable_is_an_error_of_one_line(
    benefits: Command, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)

    status, out, err = benefits("serve", "--host", "192.0.2.1")  # an address that this machine does not have

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_serve_warns_on_standard_output_that_clients_are_not_identified(
    benefits: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard error holds log lines only, in JSON."""
    monkeypatch.setattr(server, "serve", lambda *_, **__: None)

    status, out, err = benefits("serve", "--host", "0.0.0.0", "--port", reserve_port())  # noqa: S104 - the warning is about it

    assert (status, err) == (0, "")
    assert out.endswith(
        "Without --identity-header, any client that can reach this address can read and order for every user.\n"
    )


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return a port for a service that ends once it has opened its database."""
    monkeypatch.setattr(server, "serve", lambda *_, **__: None)
    return reserve_port()


def test_serve_says_that_it_brings_a_database_up_to_date_and_where_the_copy_is(
    benefits: Command, tmp_path: Path, port: int
) -> None:
    database_at(tmp_path / "benefits.db", "retire_products")
    copy = tmp_path / "benefits.db.before-grant_money"

    serving = f"Serving benefits.db at http://127.0.0.1:{port} with 1 worker process; Ctrl-C stops.\n"
    assert benefits("serve", "--port", port, "--workers", 1) == (
        0,
        f"benefits.db is of an earlier version; it is copied to {copy}, then brought up to date.\n{serving}",
        "",
    )
    assert copy.exists()
    assert benefits("serve", "--port", port, "--workers", 1) == (0, serving, "")


def standing_deadlines() -> int:
    """Return how many deadlines stand; each would end this process."""
    timers = [thread for thread in threading.enumerate() if isinstance(thread, Timer)]
    return sum(timer.interval == START and not timer.finished.is_set() for timer in timers)


@pytest.mark.parametrize(("name", "expected"), [(None, 1), ("retire_products", 0)])
def test_only_to_bring_a_database_up_to_date_may_take_as_long_as_it_takes(
    benefits: Command, tmp_path: Path, port: int, name: str | None, expected: int
) -> None:
    if name:
        database_at(tmp_path / "benefits.db", name)
    found = []

    with further(lambda _: found.append(standing_deadlines())):
        assert benefits("serve", "--port", port)[0] == 0
    assert found == [expected]
    assert standing_deadlines() == 0
