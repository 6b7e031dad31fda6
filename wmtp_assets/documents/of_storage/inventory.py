"""``docs/phase1_asset_inventory.md``: every artifact, every file."""

from __future__ import annotations

from wmtp_assets.documents.document import DocumentType, Facts
from wmtp_assets.documents.markdown import render


def inventory(facts: Facts) -> bytes:
    """The document."""
    return render("of_storage/inventory", facts=facts)


DOCUMENT = DocumentType("phase1_asset_inventory.md", inventory)
