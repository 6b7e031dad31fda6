"""The ``wmtp`` command: what is there and whether it is right, without Dagster."""
