"""The program ``benefits``: its commands, settings, composition root, middleware, and the server that runs Flask."""

import sys


def main() -> None:
    """Run the ``benefits`` command.

    If a package that it needs is not installed, it prints one line that names the package, and exits with status 2.
    """
    try:
        from benefits_service.commands import run  # noqa: PLC0415 - importing it fails if a package is missing
    except ModuleNotFoundError as error:
        print(  # noqa: T201 - click may be the package that is missing
            f"benefits: the package {error.name} is not installed; run: pip install 'benefits[service]'",
            file=sys.stderr,
        )
        sys.exit(2)
    run()
