"""``python -m benefits_service`` is the ``benefits`` command."""

from benefits_service import main

main()
