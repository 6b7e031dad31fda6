"""Asks VESSL for credentials of a volume; run as a script, where the ``vessl`` package is.

    python -I vessl_helper.py STORAGE VOLUME {read,write}

Prints one JSON object: the volume's place and its credentials, or ``{"error": …}``. It imports
nothing of this project, and runs on Python 3.9: the package has its own pins and interpreter.
"""

import json
import os
import resource
import sys
from contextlib import suppress

MEMORY = 4 << 30
"""Bytes of address space."""


def main() -> None:
    """Ask, and print the answer; what the package prints itself goes to standard error.

    The package reads whatever it is answered, so its memory is bounded.
    """
    with suppress(ValueError, OSError):  # of macOS
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        json.dump(ask(*sys.argv[1:]), answer)


def ask(storage: str, volume: str, kind: str) -> dict[str, object]:
    """The answer; of an error its type only, for its text may quote a request."""
    try:
        from vessl.storage import volume_federate  # pyright: ignore[reportMissingImports]

        names = {"storage_name": storage, "volume_name": volume, "federation_type": kind}
        if organization := os.environ.get("VESSL_DEFAULT_ORGANIZATION"):
            names["organization_name"] = organization  # the package reads it from its file only
        info = volume_federate(**names)
        token = info.s3_token
        if info.type != "s3" or token is None:
            return {"error": "NoS3", "kind": str(info.type)}
        return {
            "bucket": info.bucket_name,
            "path": info.path or "",
            "region": info.region,
            "endpoint": info.endpoint,
            "path_style": bool(info.force_path_style),
            "access_key": token.access_key_id,
            "secret_key": token.secret_access_key,
            "token": token.session_token,
            "expiry_time": token.expiration.isoformat() if token.expiration else None,
        }
    except Exception as error:  # whatever the package raises, the caller says what to do
        return {"error": type(error).__name__}


if __name__ == "__main__":
    main()
