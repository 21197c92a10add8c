"""The ``benefits`` command: every mistake of its user is one line on standard error and exit status 2."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import click

from benefits_core import OPENING_BALANCE, InvalidValueError, OfferProducts, StorageUnavailableError
from benefits_core.values import MAX_MONEY, money
from benefits_http.app import DEVELOPMENT_ORIGINS, require_origin
from benefits_http.wire import InvalidRequestError, ProductBody, read_catalogue
from benefits_service.composition import audit_database, back_up_database, build_app, open_store, store_opener
from benefits_service.middleware.identity import require_header_name
from benefits_service.middleware.metrics import shared_by_workers
from benefits_service.runtime import server
from benefits_service.settings import DATABASE, HOST, PORT, Settings, default_workers


class Failure(click.ClickException):
    """Something that the user of the command has to know and can mend."""

    exit_code = 2


def run() -> None:
    """Run the command line."""
    try:
        sys.exit(cli.main(prog_name="benefits", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"benefits: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except StorageUnavailableError as error:
        click.echo(f"benefits: {error}", err=True)
        sys.exit(Failure.exit_code)
    except click.Abort:
        sys.exit(130)  # as shells say that Ctrl-C ended it


def _amount(_: click.Context, __: click.Parameter, value: str) -> Decimal:
    try:
        return money(Decimal(value))
    except (InvalidOperation, InvalidValueError) as error:
        raise click.BadParameter(f"{value!r} is not an amount of 0 to {MAX_MONEY:,}, to the cent.") from error


def _origins(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(require_origin, values))
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def _header(_: click.Context, option: click.Parameter, name: str | None) -> str | None:
    # Click takes an empty variable for none, but whoever sets this one wants to be protected.
    if name is None:
        name = os.environ.get(str(option.envvar))
    try:
        return None if name is None else require_header_name(name)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from error


def _frontend(_: click.Context, __: click.Parameter, folder: Path | None) -> Path | None:
    if folder is not None and not (folder / "index.html").is_file():
        raise click.BadParameter(f"{folder} has no index.html; name what `npm run build` has made.")
    return folder


database_option = click.option(
    "--database",
    default=DATABASE,
    show_default=True,
    envvar="BENEFITS_DATABASE",
    show_envvar=True,
    metavar="FILE",
    help="The SQLite file; created as needed.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="benefits", prog_name="benefits")
def cli() -> None:
    """Employee benefits: employees see what is on offer, see their balance, and order."""


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--if-empty", is_flag=True, help="Do nothing if the catalogue has products already.")
@database_option
def seed(file: Path, *, if_empty: bool, database: str) -> None:
    """Load or update the catalogue from FILE, which is JSON like the answer of GET /api/products.

    The catalogue takes the order of the file. No product is ever removed. A bad file changes nothing.
    """
    try:
        products = read_catalogue(file.read_bytes(), _with_progress)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    except InvalidRequestError as error:
        raise Failure(f"{file}: {error}") from error
    with open_store(database) as store:
        if if_empty and store.products.list_all():
            click.echo(f"{database} has a catalogue already.")
            return
        OfferProducts(store)(products)
    click.echo(f"{database} offers the {len(products)} products of {file}.")


def _with_progress(entries: list[ProductBody]) -> Iterator[ProductBody]:
    # A step for each hundredth: to draw the bar takes longer than to read a product.
    steps, hidden = max(1, len(entries) // 100), not sys.stdout.isatty()
    with click.progressbar(entries, label="Reading", update_min_steps=steps, hidden=hidden) as bar:
        yield from bar


@cli.command()
@database_option
def check(*, database: str) -> None:
    """Verify the database: its file, and that its books balance. It may be in use.

    Prints what is wrong, a line each, and exits with status 1; or one line, and status 0.
    """
    _require_database(database)
    found = audit_database(database)
    for finding in found.findings:
        click.echo(finding)
    if found.findings:
        sys.exit(1)
    click.echo(f"{database} is sound: {found.users} users, {found.orders} orders, {found.products} products.")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@database_option
def backup(file: Path, *, overwrite: bool, database: str) -> None:
    """Copy the database to FILE, consistent and whole, while a service may be using it."""
    _require_database(database)
    try:
        back_up_database(database, file, overwrite=overwrite)
    except FileExistsError as error:
        raise Failure(f"{file} exists; name another file, or say --overwrite") from error
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from error
    click.echo(f"{file} is a copy of {database}.")


def _require_database(database: str) -> None:
    if not Path(database).exists():
        raise Failure(f"{database}: there is no such file")


@cli.command()
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    envvar="BENEFITS_HOST",
    show_envvar=True,
    help="The address to listen at.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=PORT,
    show_default=True,
    envvar="BENEFITS_PORT",
    show_envvar=True,
    help="The port to listen at.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=default_workers,
    show_default="one a processor, at most 4",
    envvar="BENEFITS_WORKERS",
    show_envvar=True,
    help="How many processes answer.",
)
@click.option(
    "--opening-balance",
    callback=_amount,
    default=str(OPENING_BALANCE),
    show_default=True,
    envvar="BENEFITS_OPENING_BALANCE",
    show_envvar=True,
    metavar="AMOUNT",
    help="What a new user may spend.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    callback=_origins,
    multiple=True,
    default=DEVELOPMENT_ORIGINS,
    show_default=True,
    envvar="BENEFITS_CORS_ORIGIN",
    show_envvar=True,
    metavar="ORIGIN",
    help="An origin whose pages may call the API; repeatable, in the environment separated by spaces.",
)
@click.option(
    "--frontend",
    type=click.Path(path_type=Path),
    callback=_frontend,
    envvar="BENEFITS_FRONTEND",
    show_envvar=True,
    metavar="DIR",
    help="A built React application, to be served beside the API.",
)
@click.option(
    "--identity-header",
    callback=_header,
    envvar="BENEFITS_IDENTITY_HEADER",
    show_envvar=True,
    metavar="NAME",
    help="The header by which a proxy names the user, such as X-Forwarded-User; nobody may act for another one then.",
)
@click.option(
    "--log-paths",
    is_flag=True,
    envvar="BENEFITS_LOG_PATHS",
    show_envvar=True,
    help="Log paths as they were asked for, with the names of users.",
)
@database_option
def serve(  # noqa: PLR0913 - an argument for each setting
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
    """Serve the API until SIGTERM or Ctrl-C."""
    try:
        address = server.resolve(host, port)
    except OSError as error:
        raise Failure(f"can't listen at {host} port {port}: {error.strerror}") from error
    open_store = store_opener(
        database
    )  # reports a file that can't be used here, once, and not in every worker
    shown = f"[{address}]" if ":" in address else address
    click.echo(f"Serving {database} at http://{shown}:{port} with {workers} worker processes; Ctrl-C stops.")
    _warn(address, identity_header)
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


def _warn(address: str, identity_header: str | None) -> None:
    if identity_header is not None:
        click.echo(
            f"Whoever {identity_header} names is believed: only a proxy that sets it may reach this address."
        )
    elif not ip_address(address.partition("%")[0]).is_loopback:
        click.echo("Without --identity-header, whoever can reach this address can see and order for anybody.")
