"""Google's own client, to the server in memory that stands in for Google's: ``python -m
wmtp_assets_tests.clients.google_client``, in the environment of google.txt."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager

from wmtp_assets_tests.destinations.buckets import Objects, check_google, google
from wmtp_assets_tests.destinations.front import serve

DATA = random.Random(1).randbytes(2_500_000)

if __name__ == "__main__":
    kept = Objects()
    with serve(google(kept), check_google) as front, tempfile.NamedTemporaryFile() as file:
        os.environ["STORAGE_EMULATOR_HOST"] = front.url
        Path(file.name).write_bytes(DATA)
        client = storage.Client(project="project", credentials=AnonymousCredentials())
        blob = client.bucket("bucket").blob("tree/a file")
        transfer_manager.upload_chunks_concurrently(
            file.name, blob, chunk_size=1_000_000, worker_type="thread", checksum="crc32c"
        )
        assert kept.objects["bucket/tree/a file"].data == DATA
        sent = sorted(request.operation for request in front.requests)
        assert sent == ["CompleteMultipartUpload", "CreateMultipartUpload", *["UploadPart"] * 3]
