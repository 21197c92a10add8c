"""``benefits serve``: run the service."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from threading import Timer

import click

from benefits_http.app import DEVELOPMENT_ORIGINS, require_origin
from benefits_service.commands.amounts import opening_balance_option
from benefits_service.commands.common import Failure, database_option, examples, say, setting
from benefits_service.composition import build_app
from benefits_service.databases import Database
from benefits_service.middleware.counts import ReservedCounts, reserve_counts
from benefits_service.middleware.identity import require_header_name
from benefits_service.middleware.proxy import require_root_path
from benefits_service.output import stop_waiting
from benefits_service.runtime import server
from benefits_service.runtime.address import claim
from benefits_service.runtime.liveness import HOPELESS, START
from benefits_service.settings import HOST, PORT, Settings, default_workers


def _require_origins(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(require_origin, values))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def _require_header(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    # Click treats an empty variable as unset. Here it is a mistake.
    if name is None:
        name = os.environ.get(str(option.envvar))
    try:
        return None if name is None else require_header_name(name)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def _require_root_path(_: click.Context, __: click.Parameter, path: str) -> str:
    try:
        return require_root_path(path)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def _require_build(_: click.Context, __: click.Parameter, folder: Path | None) -> Path | None:
    if folder is not None and not (folder / "index.html").is_file():
        raise click.BadParameter(f"{folder} has no index.html; name the folder that `npm run build` creates.")
    return folder


@click.command(
    epilog=examples(
        "benefits serve",
        "benefits serve --port 4001 --workers 2 --database other.db",
        "benefits serve --opening-balance 750.50",
        "benefits serve --cors-origin https://benefits.example.com",
        "benefits serve --frontend build",
        "benefits serve --identity-header X-Forwarded-User",
        "BENEFITS_PORT=4001 BENEFITS_DATABASE=other.db benefits serve",
    )
)
@setting("--host", default=HOST, help="The address to listen at.")
@setting("--port", type=click.IntRange(1, 65535), default=PORT, help="The port to listen at.")
@setting(
    "--workers",
    type=click.IntRange(1, 64),
    default=default_workers,
    show_default="one for each processor, at most 4",
    help="The number of worker processes.",
)
@opening_balance_option("The opening balance of a new user.")
@setting(
    "--cors-origin",
    "cors_origins",
    callback=_require_origins,
    multiple=True,
    default=DEVELOPMENT_ORIGINS,
    metavar="ORIGIN",
    help="An origin whose pages may call the API. Repeatable; in the environment, separate origins by spaces.",
)
@setting(
    "--frontend",
    type=click.Path(path_type=Path),
    callback=_require_build,
    metavar="DIR",
    help="A built React application to serve beside the API.",
)
@setting(
    "--identity-header",
    cls=click.Option,  # no value of the variable is ignored: the service would be open to all
    callback=_require_header,
    metavar="NAME",
    help="The header in which a proxy names the user, such as X-Forwarded-User. Users then act for themselves only.",
)
@setting(
    "--identity-case-insensitive",
    is_flag=True,
    help="Case-fold all user ids, as directories do that ignore case: JDoe is jdoe.",
)
@setting(
    "--root-path",
    callback=_require_root_path,
    default="",
    show_default="none",
    metavar="PATH",
    help="The path under which a proxy shows the service, such as /benefits.",
)
@setting(
    "--trust-forwarded",
    is_flag=True,
    help="Believe the proxy's X-Forwarded-For, -Proto, -Host, -Port and -Prefix. Clients must not be able to set them.",
)
@setting(
    "--keep-alive",
    type=click.IntRange(1, 3600),
    default=server.KEEP_ALIVE,
    metavar="SECONDS",
    help="How long an idle connection stays open, and how long a client may take for the headers of a request.",
)
@setting("--log-paths", is_flag=True, help="Log the paths of requests. They contain user names.")
@database_option
def serve(  # noqa: PLR0913 - one argument for each setting
    *,
    frontend: Path | None,
    host: str,
    port: int,
    workers: int,
    opening_balance: Decimal,
    cors_origins: tuple[str, ...],
    identity_header: str | None,
    identity_case_insensitive: bool,
    root_path: str,
    trust_forwarded: bool,
    keep_alive: int,
    log_paths: bool,
    database: Database,
) -> None:
    """Serve the API until SIGTERM, SIGHUP or Ctrl-C. The database is created if it does not exist."""
    stop_waiting()
    try:
        claimed = claim(host, port)
    except OSError as error:
        raise Failure(
            f"can't listen at {host} port {port}: {error.strerror}; see --host and --port"
        ) from error
    settings = Settings(
        opening_balance=opening_balance,
        cors_origins=cors_origins,
        frontend=frontend,
        identity_header=identity_header,
        identity_case_insensitive=identity_case_insensitive,
        log_paths=log_paths,
        root_path=root_path,
        trust_forwarded=trust_forwarded,
    )
    with claimed:
        # This opens the store once: a file that can't be used is reported here, and not by every worker.
        with _deadline(f"{database.name} could not be opened within {START} s") as lift:
            # To bring a large file up to date takes as long as it takes: if it were cut short, the next start would be too.
            def announce(line: str) -> None:
                lift()
                say(line)

            open_store = database.opener(announce)
            if identity_case_insensitive and (count := database.fold_user_ids()):
                say(f"User ids that were case-folded: {count}.")
        address = claimed.getsockname()[0]
        shown = f"[{address}]" if ":" in address else address
        say(
            f"Serving {database.name} at http://{shown}:{port}"
            f" with {workers} worker process{'es' if workers > 1 else ''}; Ctrl-C stops."
        )
        _print_trust(address, identity_header, trust_forwarded=trust_forwarded)
        build = partial(build_app, settings, open_store, _reserve_counts(workers))
        try:
            server.serve(build, address=claimed, workers=workers, keep_alive=keep_alive)
        except server.NoWorkerError as error:
            raise Failure(
                f"no worker process could be kept alive for {HOPELESS} s; the log says why"
            ) from error


@contextmanager
def _deadline(message: str) -> Iterator[Callable[[], None]]:
    """Exit with status 2 if the block takes too long. A disk that hangs can keep it for ever, and no signal ends that.

    The block gets a function that lifts the deadline.
    """

    def end() -> None:
        say(f"benefits: {message}", err=True)
        os._exit(Failure.exit_code)

    timer = Timer(START, end)
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def _reserve_counts(workers: int) -> ReservedCounts | None:
    try:
        return reserve_counts(workers)
    except OSError as error:
        say(f"There are no metrics, since no memory can be reserved for them: {error.strerror}.")
        return None


def _print_trust(address: str, identity_header: str | None, *, trust_forwarded: bool) -> None:
    if trust_forwarded:
        say(
            "The service trusts X-Forwarded-*: only a proxy that sets or removes all of them may reach the address."
        )
    if identity_header is not None:
        say(
            f"The service trusts {identity_header}: only a proxy that sets this header may reach the address."
        )
    elif not ip_address(address.partition("%")[0]).is_loopback:
        say(
            "Without --identity-header, any client that can reach this address can read and order for every user."
        )
