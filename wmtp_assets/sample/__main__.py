"""``python -m wmtp_assets.sample [FOLDER]``: build the sample repositories and serve them."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from wmtp_assets.base.settings import SOURCE_VARIABLE, read_settings
from wmtp_assets.catalogue.artifact import INTERNAL
from wmtp_assets.sample.repositories import build_repositories
from wmtp_assets.sample.server import serve


def main() -> None:
    """Serve until Ctrl-C."""
    root = read_settings({**os.environ, SOURCE_VARIABLE: "sample"}).root
    parser = argparse.ArgumentParser(prog="python -m wmtp_assets.sample", description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=root / INTERNAL / "hub", help="default: %(default)s"
    )
    folder: Path = parser.parse_args().folder
    # A shell starts background jobs with SIGINT ignored; both signals end this one all the same.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        build_repositories(folder)
        with serve(folder) as endpoint:
            print(f"{endpoint} serves {folder} until Ctrl-C", flush=True)
            print(f"export HF_ENDPOINT={endpoint}", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
