"""URLs of destinations."""

from __future__ import annotations

import pytest

from wmtp_assets.base.errors import SpecError
from wmtp_assets.destinations.destination import Location, parse_url


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("s3://bucket", Location("s3", "bucket", "")),
        ("s3://bucket/a/b/", Location("s3", "bucket", "a/b")),
        ("file:///mnt/a%20b/", Location("file", "", "mnt/a b")),
        ("file://localhost/mnt", Location("file", "localhost", "mnt")),
        ("gs://bucket/a", Location("gs", "bucket", "a")),
        ("az://container/a", Location("az", "container", "a")),
        ("vessl://storage/volume", Location("vessl", "storage", "volume")),
        ("vessl://storage/volume/a/b", Location("vessl", "storage", "volume/a/b")),
    ],
)
def test_forms(url: str, location: Location) -> None:
    """Each part lands where it belongs."""
    assert parse_url(url) == location


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "ftp:// is not a known destination; use one of: az://"),
        ("/mnt/volume", "'/mnt/volume' is not a known destination"),
        ("s3://key:s3cr3t@bucket/x", "has no user name, password"),
        ("s3://bucket/x?X-Amz-Signature=s3cr3t", "has no user name, password"),
        ("s3:///x", "names no bucket"),
        ("s3://bucket/../other", "is not a plain relative path"),
        ("s3://bucket/a//b", "is not a plain relative path"),
        ("s3://bucket/%00", "is not a plain relative path"),
        ("file://host/x", "names no absolute folder"),
        ("vessl://storage", "names no volume"),
        ("s3://[bucket/x", "that is not a URL"),
    ],
)
def test_what_is_none(url: str, message: str) -> None:
    """Named with what would be one; a secret that somebody put in is not repeated."""
    with pytest.raises(SpecError) as error:
        parse_url(url)
    assert message in str(error.value)
    assert "s3cr3t" not in str(error.value)
