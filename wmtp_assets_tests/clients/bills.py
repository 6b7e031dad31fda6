"""CycloneDX's own validator, which says whether each bill of materials of a storage root is one.

Besides the fields it looks at what they hold: that a time is one, and that a reference is an IRI.
For these it needs a parser that takes seconds to import, so it has an environment.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from wmtp_assets.documents.bom import FILE


def main(root: Path) -> None:
    """Validate each bill, and a copy with a reference that is no IRI."""
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    paths = sorted(root.rglob(FILE))
    for path in paths:
        bom = json.loads(path.read_text())
        error = validator.validate_str(json.dumps(bom))
        assert error is None, f"{path}: {error}"
        damaged = copy.deepcopy(bom)
        damaged["metadata"]["component"]["externalReferences"] = [
            {"type": "website", "url": "no <IRI>"}
        ]
        assert "iri-reference" in str(validator.validate_str(json.dumps(damaged))), path
    print(len(paths))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
