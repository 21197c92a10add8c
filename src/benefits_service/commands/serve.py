"""``benefits serve``: run the service."""

from __future__ import annotations

import os
import shutil
from decimal import Decimal, InvalidOperation
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import click

from benefits_core import OPENING_BALANCE, InvalidValueError
from benefits_core.values import MAX_MONEY, money
from benefits_http.app import DEVELOPMENT_ORIGINS, require_origin
from benefits_service.commands.common import Failure, database_option, examples, setting
from benefits_service.composition import build_app, store_opener
from benefits_service.middleware.identity import require_header_name
from benefits_service.middleware.metrics import shared_by_workers
from benefits_service.runtime import server
from benefits_service.settings import HOST, PORT, Settings, default_workers


def _parse_amount(_: click.Context, __: click.Parameter, value: str) -> Decimal:
    try:
        return money(Decimal(value))
    except (InvalidOperation, InvalidValueError) as error:
        raise click.BadParameter(
            f"{value!r} is not an amount from 0 to {MAX_MONEY:,} with at most two decimals."
        ) from error


def _require_origins(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(require_origin, values))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def _require_header(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    # Click treats an empty variable as unset. Here it is a mistake: without the header, the service would be open to all.
    if name is None:
        name = os.environ.get(str(option.envvar))
    try:
        return None if name is None else require_header_name(name)
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
@setting(
    "--opening-balance",
    callback=_parse_amount,
    default=str(OPENING_BALANCE),
    metavar="AMOUNT",
    help="The opening balance of a new user.",
)
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
    callback=_require_header,
    metavar="NAME",
    help="The header in which a proxy names the user, such as X-Forwarded-User. Users then act for themselves only.",
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
    log_paths: bool,
    database: str,
) -> None:
    """Serve the API until SIGTERM or Ctrl-C. The database is created if it does not exist."""
    try:
        address = server.resolve(host, port)
    except OSError as error:
        raise Failure(
            f"can't listen at {host} port {port}: {error.strerror}; see --host and --port"
        ) from error
    # This opens the store once: a file that can't be used is reported here, and not by every worker.
    open_store = store_opener(database)
    shown = f"[{address}]" if ":" in address else address
    click.echo(f"Serving {database} at http://{shown}:{port} with {workers} worker processes; Ctrl-C stops.")
    _print_trust(address, identity_header)
    settings = Settings(
        opening_balance=opening_balance,
        cors_origins=cors_origins,
        frontend=frontend,
        identity_header=identity_header,
        log_paths=log_paths,
    )
    with shared_by_workers() as metrics_folder:
        server.serve(
            partial(build_app, settings, open_store),
            host=address,
            port=port,
            workers=workers,
            clean_up=partial(shutil.rmtree, metrics_folder, ignore_errors=True),
        )


def _print_trust(address: str, identity_header: str | None) -> None:
    if identity_header is not None:
        click.echo(
            f"The service trusts {identity_header}: only a proxy that sets this header may reach the address."
        )
    elif not ip_address(address.partition("%")[0]).is_loopback:
        click.echo(
            "Without --identity-header, any client that can reach this address can read and order for every user."
        )
