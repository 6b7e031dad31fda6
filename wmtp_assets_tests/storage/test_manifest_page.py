"""``docs/manifest.md`` shows a manifest and its pieces as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from wmtp_assets.base.settings import Settings
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.conftest import catalogue

PAGE = Path(__file__).parents[2] / "docs/manifest.md"


def test_page_shows_a_real_manifest(good_root: Path) -> None:
    """Key by key and in order; only the time and the hash over it are another's."""
    store = Store(Settings("sample", good_root), catalogue())
    artifact = store.catalogue["starling_rm_raw"]
    shown, pieces = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    document = json.loads(shown)
    real = store.manifest(artifact).document
    varying = {key: document[key] for key in ("created_at", "self_sha256")}
    assert shown == json.dumps({**real, **varying}, indent=2, ensure_ascii=False) + "\n"
    assert pieces == store.path(artifact, artifact.pieces).read_text()
