"""What others wrote reaches no terminal, no log and no page as a control character."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import click
import pytest

from wmtp_assets.base.errors import WmtpError
from wmtp_assets.catalogue.specs import DatasetSpec
from wmtp_assets.cli import common
from wmtp_assets.cli.main import cli
from wmtp_assets.documents.document import make_document
from wmtp_assets.hub.client import careful_connections
from wmtp_assets.hub.endpoint import Endpoint
from wmtp_assets.hub.remote import resolve
from wmtp_assets.kinds.registry import rules_of
from wmtp_assets.rules.apply import LastResult
from wmtp_assets.sample.server import serve
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.hub.faults import SPECS, Answer, Request, faulty_hub, write_hub
from wmtp_assets_tests.respec import respec
from wmtp_assets_tests.trees import reseal

BAD = "p\x1b[31mq\x07\x7f\x9b\u202er\u2066\u200b\ufeffs"
MARK = "\\x1b[31m"
"""What is seen of it where it is shown, in JSON with a u."""


def is_clean(text: str) -> bool:
    """Whether nothing in there is obeyed, or not seen."""
    return all(letter.isprintable() or letter == "\n" for letter in text)


def run(store: Store, *arguments: str) -> str:
    """Both outputs of a command, and its error."""
    out = io.StringIO()
    patch = pytest.MonkeyPatch()
    patch.setattr(common, "load_catalogue", lambda: store.catalogue)
    patch.setenv("WMTP_STORAGE_ROOT", str(store.root))
    patch.setenv("WMTP_SOURCE", "")
    with patch.context(), redirect_stdout(out), redirect_stderr(out):
        try:
            with suppress(SystemExit):
                cli.main(list(arguments), standalone_mode=False)
        except (WmtpError, click.ClickException) as error:
            out.write(str(error))
        finally:
            patch.undo()
    return out.getvalue()


def in_a_file_name(store: Store) -> Store:
    """Somebody put it there."""
    (store.root / "datasets_v2/humaneval/stats" / BAD).write_text("x")
    (store.root / "docs" / f"{BAD}\udcff").write_text("x")
    (store.root / "datasets_v2/humaneval/stats" / "\udcff").write_text("x")
    return store


def in_a_manifest(store: Store) -> Store:
    """One that is believed."""
    artifact = store.catalogue["humaneval_raw"]
    said = store.manifest(artifact).document["source"]
    source = {key: BAD if isinstance(value, str) else value for key, value in said.items()}
    reseal(store, artifact, source=source, dtype=BAD)
    artifact = store.catalogue["humaneval_stats"]
    reseal(store, artifact, dtype=BAD, splits={BAD: {BAD: 1, "dropped": {BAD: 2}}}, summary=BAD)
    return store


def in_a_result(store: Store) -> Store:
    """What is remembered of a rule is a file too."""
    artifact = store.catalogue["humaneval_stats"]
    folder = store.internal / "verified" / artifact.key
    folder.mkdir(parents=True, exist_ok=True)
    content = store.manifest(artifact).content_sha256
    for rule in rules_of(artifact):
        result = LastResult(
            rule=rule.name, at=BAD, content_sha256=content, problem=BAD, files={}, damaged=(BAD,)
        )
        path = folder / f"{rule.name}.json"
        path.unlink(missing_ok=True)
        path.write_text(result.model_dump_json())
    return store


def in_a_spec(store: Store) -> Store:
    """Texts that people write."""
    spec = next(spec for spec in store.catalogue.specs if spec.name == "humaneval")
    assert isinstance(spec, DatasetSpec)
    repository = {**spec.repository.model_dump(), "license": BAD}
    return respec(store, "humaneval", description=BAD, repository=repository, citation=BAD)


PLACES: tuple[Callable[[Store], Store], ...] = (
    in_a_file_name,
    in_a_manifest,
    in_a_result,
    in_a_spec,
)


@pytest.mark.parametrize("plant", PLACES)
def test_commands(store: Store, plant: Callable[[Store], Store]) -> None:
    """Each is shown somewhere, as an escape; JSON holds the text itself."""
    planted = plant(store)
    shown = ""
    for arguments in (
        ("status", "humaneval"),
        ("status", "--files", "humaneval"),
        ("status", "--stale", "humaneval"),
        ("show", "humaneval_raw"),
        ("show", "humaneval_stats"),
        ("show", "humaneval_card"),
        ("plan", "humaneval_raw"),
        ("verify", "humaneval_stats", "humaneval_raw", "humaneval_card"),
        ("repair", "humaneval_stats", "--dry-run"),
        ("migrate", "--dry-run", "humaneval_stats"),
        ("gc", "--dry-run"),
        ("clean", "humaneval_stats"),
        ("lock", BAD),
        ("show", BAD),
        ("status", f"--{BAD}"),
    ):
        said = run(planted, *arguments)
        if arguments[-1] not in (BAD, f"--{BAD}"):
            shown += said
        if isinstance(said, str) and arguments[-1] != f"--{BAD}":
            assert is_clean(said), (arguments, said)
    assert MARK in shown
    for arguments in (
        ("show", "humaneval_stats"),
        ("show", "humaneval_raw"),
        ("status",),
        ("verify", "humaneval_stats"),
        ("repair", "humaneval_stats", "--dry-run"),
        ("gc", "--dry-run"),
    ):
        said = run(planted, *arguments, "--json")
        assert is_clean(said)
        assert json.loads(said[said.index("{\n") :]), arguments  # behind what it is doing


@pytest.mark.parametrize("plant", [in_a_manifest, in_a_spec])
@pytest.mark.parametrize("key", ["humaneval_card", "humaneval_croissant", "storage_readme"])
def test_pages(store: Store, plant: Callable[[Store], Store], key: str) -> None:
    """What documents say, their front matter, and the JSON of Croissant."""
    planted = plant(store)
    data = b"\n".join(make_document(planted, planted.catalogue[key])[0].values())
    assert is_clean(data.decode())


def test_root(tmp_path: Path, store: Store) -> None:
    """The folder's own name."""
    root = tmp_path / f"{BAD}\udcfe"
    root.mkdir()
    other = Store(type(store.settings)("sample", root), store.catalogue)
    for arguments in (("status",), ("show", "humaneval_raw"), ("verify", "humaneval_raw")):
        said = run(other, *arguments)
        assert is_clean(said)


def test_hub(tmp_path: Path) -> None:
    """Messages of an error, names of files, and a commit."""
    messages = []
    spec = SPECS["humaneval"]

    def refuse(request: Request, answer: Answer) -> None:
        if not request.is_file:
            answer.refuse(400, "Bad", "p\x9b31mq\x7f")

    def rename(request: Request, answer: Answer) -> None:
        if not request.is_file:
            document = json.loads(answer.body)
            document["siblings"] = [{"rfilename": BAD}]
            answer.replace(json.dumps(document).encode())

    def name_another(request: Request, answer: Answer) -> None:
        if not request.is_file:
            answer.replace(json.dumps({**json.loads(answer.body), "sha": BAD}).encode())

    with (
        serve(write_hub(tmp_path / "hub", b"x" * 1000)) as url,
        faulty_hub(url) as hub,
        careful_connections(lambda request: None),
    ):
        for change in (refuse, rename, name_another):
            hub.change = change
            with pytest.raises(WmtpError) as error:
                resolve(Endpoint(hub.url, "mirror"), spec, "main")
            messages.append(str(error.value))
    assert all(map(is_clean, messages)), messages
    assert MARK in messages[1]
