"""How the Flask application is run: web server, event loop, suspension."""
