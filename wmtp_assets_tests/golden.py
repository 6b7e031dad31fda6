"""``python -m wmtp_assets_tests.golden ROOT``: write ``golden.json`` anew from a storage root.

The table has, for every artifact of the sample, the version of its builder, its settings, what it
was made from, and what came out. Run it after a builder's version was raised, or the sample
changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from wmtp_assets.base.settings import Settings
from wmtp_assets.documents.document import Fact
from wmtp_assets.kinds.registry import load_catalogue
from wmtp_assets.storage.store import Store

REPORT = "completion_report"
TABLE = Path(__file__).with_name("golden.json")


def entries(store: Store) -> dict[str, Any]:
    """What the table says of the artifacts of a store; names of files that tell the day do not
    count, and neither does what a report says, which tells it too."""
    facts = {a.key: Fact(a, store.manifest(a)) for a in store.catalogue}
    return {
        key: {
            "made_with": fact.stated("made_with"),
            "upstream": {k: facts[k].content_sha256 for k in fact.artifact.upstream},
            "content_sha256": None if key == REPORT else fact.content_sha256,
        }
        for key, fact in facts.items()
    }


def main() -> None:
    """Write the table."""
    store = Store(Settings("sample", Path(sys.argv[1])), load_catalogue())
    TABLE.write_text(json.dumps(entries(store), indent=1) + "\n")


if __name__ == "__main__":
    main()
