"""The web UI as a person uses it: a real web server, a real daemon, a real browser."""
