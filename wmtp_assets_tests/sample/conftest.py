"""The small hub of the tests of the client, for those of the server."""

from wmtp_assets_tests.hub.conftest import small_folder, small_hub

__all__ = ["small_folder", "small_hub"]
