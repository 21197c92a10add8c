"""The program ``benefits``: its commands, settings, composition root, middleware, and the server that runs Flask."""

import sys


def main() -> None:
    """Run the ``benefits`` command.

    If it can't run here, it prints one line that says what is missing, and exits with status 2.
    """
    from benefits_service.output import protect  # noqa: PLC0415 - not before __main__ has corrected the path

    protect()
    try:
        import fcntl  # noqa: F401, PLC0415 - to be missed before any package: no package helps a system without it

        from benefits_service.commands import run  # noqa: PLC0415 - importing it fails if a package is missing
    except ModuleNotFoundError as error:
        print(f"benefits: {_remedy(error.name or '')}", file=sys.stderr)  # noqa: T201 - click may be missing
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    run()


def _remedy(module: str) -> str:
    """Return what to do about a module that can't be found."""
    if module == "fcntl":
        return "it runs on Linux and macOS; on Windows, use WSL or a container"
    if module.partition(".")[0] in sys.stdlib_module_names:
        return f"this Python has no module {module}, which is part of its standard library; use a complete Python"
    return f"the package {module} is not installed; run: pip install 'benefits[service]'"
