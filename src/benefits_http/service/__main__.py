"""``python -m benefits_http.service`` is the ``benefits`` command."""

from benefits_http.service import main

main()
