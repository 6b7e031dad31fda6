"""Programs that read the artifacts, each in an environment of its own (``make test-clients``).

``NAME.txt`` lists all that ``.venv-clients/NAME/`` has beside the packages of ``.venv``.
"""
