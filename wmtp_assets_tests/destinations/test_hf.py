"""Publishing to the Hugging Face Hub through its own client: one commit, or nothing."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path

import pytest

from wmtp_assets.base.errors import PublishError, SpecError
from wmtp_assets.destinations.destination import (
    ORDINARY,
    Access,
    Destination,
    open_destination,
    parse_url,
)
from wmtp_assets.destinations.listing import MANIFEST
from wmtp_assets.destinations.sending import Options
from wmtp_assets.operations.publish import Done, addressed, named, publish
from wmtp_assets.storage.store import Store
from wmtp_assets_tests.destinations import hub as server
from wmtp_assets_tests.destinations.hub import READ_TOKEN, Hub
from wmtp_assets_tests.destinations.trees import (
    DATASET,
    LARGE,
    MODEL,
    commit,
    files_below,
    pull_all,
    random_bytes,
)
from wmtp_assets_tests.respec import respec

MODELS, DATASETS = "hf://models/acme/mtp", "hf://datasets/acme/humaneval"
IN_REPOSITORY = "raw/7B_1T_4/consolidated.pth"
ACCEPTED = Options(is_accepted=True)


@pytest.fixture
def models(hub: Hub) -> server.Repository:
    return hub.make("model", "acme/mtp")


def send(
    store: Store,
    name: str = MODEL,
    url: str = MODELS,
    options: Options = ACCEPTED,
    access: Access = ORDINARY,
) -> Done:
    return publish(store, named(store, [name]), open_destination(store, url, access), options)


def opened(store: Store, url: str = MODELS) -> Destination:
    return open_destination(store, url, Access(is_read=True))


@pytest.fixture(autouse=True)
def without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The artifacts here are random bytes, of which no rule but the hash would hold."""
    monkeypatch.setattr("wmtp_assets.operations.publish.require_rules", lambda *args: None)


def test_one_commit_has_all(tree_store: Store, hub: Hub, models: server.Repository) -> None:
    """The hub's users see the files at the root, and never some of them."""
    before = models.branches["main"]
    send(tree_store)
    assert len(models.commits) == 2
    assert hub.messages[0]["parentCommit"] == before
    root = tree_store.root / "models_v2/meta-llama-mtp"
    assert models.main[IN_REPOSITORY] == (root / IN_REPOSITORY).read_bytes()
    assert set(models.main) == {
        IN_REPOSITORY,
        "raw/empty",
        "raw.metadata.json",
        *(name for name in models.main if "pieces" in name),
        MANIFEST,
        "LICENSE",
        "NOTICE",
        ".gitattributes",
    }
    assert b"facebook/multi-token-prediction" in models.main["NOTICE"]
    assert b"Llama 2 Community License" in models.main["LICENSE"]


def test_pulled_is_what_was_published(
    tree_store: Store, node: Store, hub: Hub, models: server.Repository
) -> None:
    """The layout of the training code comes back, byte for byte."""
    send(tree_store)
    pull_all(node, opened(node), MODEL)
    below = "models_v2/meta-llama-mtp"
    assert files_below(node.root / below) == files_below(tree_store.root / below)


def test_unchanged_is_not_sent(tree_store: Store, hub: Hub, models: server.Repository) -> None:
    """Neither the large file, nor the small ones, nor a commit without a change."""
    send(tree_store)
    commits, sent = len(models.commits), hub.sent()
    done = send(tree_store)
    assert (len(models.commits), hub.sent(), done.payload, done.is_written) == (commits, sent, 0, 0)


def test_only_what_changed_is_sent(tree_store: Store, hub: Hub, models: server.Repository) -> None:
    """By hash: a file of the same name and size is another one."""
    send(tree_store)
    sent = hub.sent()
    changed = random_bytes(3_000_000, 9)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": changed, "raw/empty": b""})
    send(tree_store)
    assert hub.sent() == sent + 1
    assert models.main[IN_REPOSITORY] == changed


@pytest.mark.parametrize("path", [IN_REPOSITORY, "raw.metadata.json"])
def test_replaced_in_the_repository(
    tree_store: Store, hub: Hub, models: server.Repository, path: str
) -> None:
    """What somebody committed over one of our files is seen, also with the same size, and repaired;
    by the blob's id where the file lies in git."""
    send(tree_store)
    damaged = dict(models.main)
    damaged[path] = damaged[path][:-3] + b"abc"
    models.add("main", damaged)
    done = send(tree_store)
    assert done.plan.count()["damaged"]["files"] == 1
    unit = tree_store.root / "models_v2/meta-llama-mtp"
    assert models.main[path] == (unit / path).read_bytes()


def test_damaged_is_not_pulled(
    tree_store: Store, node: Store, hub: Hub, models: server.Repository
) -> None:
    """Bytes are compared with MANIFEST.json, whatever the hub says of them."""
    send(tree_store)
    models.add("main", {**models.main, IN_REPOSITORY: random_bytes(3_000_000, 5)})
    with pytest.raises(PublishError, match=r"MANIFEST\.json names"):
        pull_all(node, opened(node), MODEL)
    assert not (node.root / LARGE).exists()


def test_somebody_committed_meanwhile(
    tree_store: Store, hub: Hub, models: server.Repository
) -> None:
    """Nothing of theirs is lost; what was sent is there the next time."""

    def meddle(request: str, body: bytes) -> None:
        if request.startswith("PUT /lfs/"):
            models.add("main", {**models.main, "theirs.txt": b"theirs"})
            hub.fault = lambda request, body: None

    hub.fault = meddle
    with pytest.raises(PublishError, match="somebody committed to it first"):
        send(tree_store)
    assert MANIFEST not in models.main
    sent = hub.sent()
    send(tree_store)
    assert models.main["theirs.txt"] == b"theirs"
    assert MANIFEST in models.main
    assert hub.sent() == sent


def test_nothing_is_created_unasked(tree_store: Store, hub: Hub) -> None:
    """A typo in the URL makes no repository."""
    with pytest.raises(PublishError, match=r"no such repository.*--create"):
        send(tree_store)
    assert not hub.repositories
    send(tree_store, access=Access(create=True))
    (made,) = hub.repositories.values()
    assert made.is_private
    assert MANIFEST in made.main


def test_branch(tree_store: Store, node: Store, hub: Hub, models: server.Repository) -> None:
    """A branch is published to, main stays; a missing one is made only with --create."""
    url = f"{MODELS}@next"
    with pytest.raises(PublishError, match="no branch next"):
        send(tree_store, url=url)
    send(tree_store, url=url, access=Access(create=True))
    assert MANIFEST not in models.main
    assert pull_all(node, opened(node, url), MODEL)


def test_commit_is_read_and_not_written(
    tree_store: Store, node: Store, hub: Hub, models: server.Repository
) -> None:
    """A URL may pin what is pulled."""
    send(tree_store)
    pinned = f"{MODELS}@{models.branches['main']}"
    models.add("main", {".gitattributes": b""})
    assert pull_all(node, opened(node, pinned), MODEL)
    commit(tree_store, MODEL, {"raw/7B_1T_4/consolidated.pth": b"other", "raw/empty": b""})
    with pytest.raises(PublishError, match="names a commit"):
        send(tree_store, url=pinned)


def test_public_stays_public_and_is_never_made(tree_store: Store, hub: Hub) -> None:
    """--create changes nothing of a repository that is there."""
    public = hub.make("model", "acme/mtp", is_private=False)
    send(tree_store, access=Access(create=True))
    assert not public.is_private


def test_licence_is_asked_for(tree_store: Store, hub: Hub, models: server.Repository) -> None:
    """with-notice: the conditions are read by a person before anything is sent."""
    with pytest.raises(PublishError, match=r"facebook/multi-token-prediction.*--accept-licence"):
        send(tree_store, options=Options())
    assert hub.sent() == 0


@pytest.mark.parametrize(
    ("redistribution", "url", "is_private", "is_sent"),
    [
        ("no", MODELS, True, True),
        ("no", MODELS, False, False),
        ("no", "hf://models/team/mtp", True, False),
        ("with-notice", "hf://models/team/mtp", False, True),
        ("yes", MODELS, False, True),
    ],
)
def test_redistribution(
    tree_store: Store, hub: Hub, redistribution: str, url: str, is_private: bool, is_sent: bool
) -> None:
    """no: neither to the public nor to anybody else's account, accepted or not."""
    made = hub.make("model", url.removeprefix("hf://models/"), is_private=is_private)
    spec = tree_store.catalogue[MODEL].spec
    repository = spec.repository.model_copy(update={"redistribution": redistribution})
    store = respec(tree_store, spec.name, repository=repository.model_dump())
    if is_sent:
        send(store, url=url)
        assert ("NOTICE" in made.main) == (redistribution != "yes")
    else:
        with pytest.raises(PublishError, match="redistribution: yes or with-notice"):
            send(store, url=url)
        assert MANIFEST not in made.main


def test_upstreams_own_licence_comes_with_it(tree_store: Store, hub: Hub) -> None:
    """The text that upstream ships, not only its name."""
    made = hub.make("dataset", "acme/humaneval")
    send(tree_store, DATASET, DATASETS)
    assert b"Its file LICENSE:\n\nMIT\n" in made.main["LICENSE"]


@pytest.mark.parametrize("token", ["", READ_TOKEN, "hf_" + "Wrong" * 5])
def test_token_that_may_not_write(
    tree_store: Store,
    hub: Hub,
    models: server.Repository,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
) -> None:
    """Said before the first large file is sent."""
    models.is_private = False
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PublishError) as refused:
        send(tree_store)
    assert hub.sent() == 0
    assert not token or token not in str(refused.value)


def test_one_folder_a_repository(tree_store: Store, hub: Hub, models: server.Repository) -> None:
    """Two folders would lie over each other at the root."""
    with pytest.raises(PublishError, match="takes one folder"):
        publish(tree_store, None, opened(tree_store), ACCEPTED)
    with pytest.raises(PublishError, match="publish them to hf://datasets/acme/mtp"):
        send(tree_store, DATASET, MODELS)
    send(tree_store)
    assert hub.sent() == 1


def test_deleted_where_it_is_asked_for(
    tree_store: Store, hub: Hub, models: server.Repository
) -> None:
    """Our file that is no longer wanted is removed with --delete; somebody else's never is."""
    send(tree_store)
    models.add("main", {**models.main, "theirs.txt": b"theirs"})
    commit(tree_store, MODEL, {"raw/other": b"other"})
    send(tree_store)
    assert IN_REPOSITORY in models.main
    send(tree_store, options=Options(is_accepted=True, delete=True))
    assert IN_REPOSITORY not in models.main
    assert models.main["theirs.txt"] == b"theirs"
    assert json.loads(models.main[MANIFEST])["retired"] == {}


def test_file_that_is_written_to_while_it_is_sent(
    tree_store: Store, hub: Hub, models: server.Repository
) -> None:
    """What is committed is what was hashed."""

    def write(request: str, body: bytes) -> None:
        if request.startswith("POST /api/models/acme/mtp/preupload"):
            path = tree_store.root / LARGE
            path.write_bytes(path.read_bytes()[:-1] + b"x")

    hub.fault = write
    with pytest.raises(PublishError):
        send(tree_store)
    assert MANIFEST not in models.main


def test_file_that_is_linked_while_it_is_sent(
    tree_store: Store, hub: Hub, models: server.Repository, tmp_path: Path
) -> None:
    """A backup does that (``cp -l``, ``rsync --link-dest``): its time of change is another one, and
    its bytes are the same."""
    linked = count()

    def link(request: str, body: bytes) -> None:
        if "/preupload/" in request and IN_REPOSITORY.encode() in body:
            os.link(tree_store.root / LARGE, tmp_path / f"backup-{next(linked)}")

    hub.fault = link
    send(tree_store)
    assert MANIFEST in models.main
    assert next(linked)


def test_time_that_is_put_back_while_it_is_sent(
    tree_store: Store, hub: Hub, models: server.Repository
) -> None:
    """Its bytes are compared again."""

    def write(request: str, body: bytes) -> None:
        if "/preupload/" in request and IN_REPOSITORY.encode() in body:
            path = tree_store.root / LARGE
            was = path.stat()
            path.write_bytes(path.read_bytes()[:-1] + b"x")
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))

    hub.fault = write
    with pytest.raises(PublishError, match="changed while it was read, or is damaged: SHA-256"):
        send(tree_store)
    assert MANIFEST not in models.main


def test_small_file_that_is_written_to_before_the_commit(
    tree_store: Store, hub: Hub, models: server.Repository
) -> None:
    """The client reads it when it makes the commit; ours has the bytes that were hashed."""
    commit(tree_store, MODEL, {"raw/small": b"small", "raw/empty": b""})

    def write(request: str, body: bytes) -> None:
        if "/preupload/" in request and MANIFEST.encode() in body:
            (tree_store.root / "models_v2/meta-llama-mtp/raw/small").write_bytes(b"other")

    hub.fault = write
    with pytest.raises(PublishError, match="changed while it was read"):
        send(tree_store)
    assert models.main["raw/small"] == b"small"


@pytest.mark.parametrize("name", ["consolidated.pth", "empty", "NOTICE", MANIFEST])
def test_file_that_the_repository_ignores(
    tree_store: Store, hub: Hub, models: server.Repository, name: str
) -> None:
    """The hub leaves it out of a commit without a word, and MANIFEST.json would name it."""
    models.add("main", {**models.main, ".gitignore": f"{name}\n".encode()})
    before = dict(models.main)
    with pytest.raises(PublishError, match=rf"\.gitignore of the repository names .*{name}"):
        send(tree_store)
    assert models.main == before


def test_card_that_the_hub_refuses(tree_store: Store, hub: Hub, models: server.Repository) -> None:
    """One message, and no commit."""
    card = "meta_llama_mtp_card"
    commit(tree_store, card, {"README.md": b"---\nlicense: 7\n---\n", "bom.cdx.json": b"{}"})
    before = dict(models.main)

    def refuse(request: str, body: bytes) -> None:
        if request == "POST /api/validate-yaml":
            raise server.Refusal(400, "Odd card")

    hub.fault = refuse
    with pytest.raises(PublishError, match=r"Invalid metadata in README\.md") as raised:
        send(tree_store, card)
    assert "\n" not in str(raised.value)
    assert models.main == before


@pytest.mark.parametrize(
    "url",
    ["hf://acme/mtp", "hf://models/mtp", "hf://models", "hf://models/a/b/c", "hf://spaces/a/b"],
)
def test_url_that_names_no_repository(url: str) -> None:
    with pytest.raises(SpecError, match="names n"):
        parse_url(url)


def test_largest_file(tree_store: Store, hub: Hub, models: server.Repository) -> None:
    """Over the hub's limit: said before anything is sent."""
    destination = opened(tree_store)
    destination.largest = 1000
    with pytest.raises(PublishError, match="takes no file of more than"):
        publish(tree_store, named(tree_store, [MODEL]), destination, ACCEPTED)
    assert hub.sent() == 0


def test_token_is_not_sent_elsewhere(
    tree_store: Store, hub: Hub, models: server.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that nobody trusts is not shown it."""
    monkeypatch.delenv("WMTP_TRUSTED_ENDPOINT")
    models.is_private = False
    seen: list[str] = []
    original = Hub.answer

    def spy(self: Hub, method: str, path: str, token: str, body: bytes) -> tuple[int, bytes]:
        seen.append(token)
        return original(self, method, path, token, body)

    monkeypatch.setattr(Hub, "answer", spy)
    with pytest.raises(PublishError):
        send(tree_store)
    assert seen
    assert set(seen) == {""}


def test_each_folder_to_a_repository_of_its_own(tree_store: Store, hub: Hub) -> None:
    """{folder} in the URL: what is in no folder is left out, and said."""
    said: list[str] = []
    url = "hf://datasets/acme/{folder}"
    everything = [*named(tree_store, [DATASET]), *tree_store.catalogue.of_kind("release")]
    (place,) = addressed(tree_store, url, everything, ACCEPTED, said.append)
    assert place == ("hf://datasets/acme/humaneval", named(tree_store, [DATASET]))
    assert "storage_release" in said[0]
