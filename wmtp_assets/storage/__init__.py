"""How artifacts lie on disk: manifest, files, exchange, lock, stage, commit, read."""
