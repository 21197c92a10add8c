"""Everything that makes the adapter a running service: command line, settings, server, composition root."""

import sys


def main() -> None:
    """Run the ``benefits`` command."""
    try:
        from benefits_service.cli import run  # noqa: PLC0415 - it needs packages that may not be installed
    except ModuleNotFoundError as missing:
        sys.exit(_explain(missing))
    run()


def _explain(missing: ModuleNotFoundError) -> int:
    print(  # noqa: T201 - said before there is a command line library to say it
        f"benefits: the package {missing.name} is not installed; pip install 'benefits[service]' brings what is needed",
        file=sys.stderr,
    )
    return 2
