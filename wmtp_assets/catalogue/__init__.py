"""What is declared: the specs in ``defs/``, and the artifacts they stand for, as data."""
