"""``python -m benefits_service`` runs the ``benefits`` command."""

from benefits_service import main

main()
