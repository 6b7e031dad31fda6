"""Which hub is asked, and who gets a token."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmtp_assets.base.errors import SpecError
from wmtp_assets.base.settings import TRUST_VARIABLE, Settings
from wmtp_assets.catalogue.specs import Repository
from wmtp_assets.hub.endpoint import Endpoint, hub_endpoint, open_endpoint

HUMANEVAL = Repository(id="openai/openai_humaneval", type="dataset", license="MIT", size="1 MB")


def test_official_hub_is_the_default() -> None:
    """Without HF_ENDPOINT the real hub is asked, and manifests say so."""
    assert hub_endpoint({}) == Endpoint("https://huggingface.co", "huggingface", True)
    assert hub_endpoint({"HF_ENDPOINT": ""}).kind == "huggingface"


@pytest.mark.parametrize(
    "url",
    ["https://mirror.example/hf/", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"],
)
def test_mirror_is_honoured(url: str) -> None:
    """People behind a slow line use a mirror; on loopback it need not be encrypted."""
    endpoint = hub_endpoint({"HF_ENDPOINT": url})
    assert endpoint == Endpoint(url.rstrip("/"), "mirror")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://mirror.example", "plain http"),
        ("http://10.0.0.7:80", "plain http"),
        ("http://127.0.0.1.mirror.example", "plain http"),
        ("ftp://mirror.example", "not a URL"),
        ("mirror.example", "not a URL"),
        ("https://", "not a URL"),
        ("https://me:secret@mirror.example", "user name or password"),
    ],
)
def test_unsafe_endpoint_is_refused(url: str, problem: str) -> None:
    """Over plain http anybody on the way can change the bytes; a password in a URL leaks."""
    with pytest.raises(SpecError, match=problem) as raised:
        hub_endpoint({"HF_ENDPOINT": url})
    assert "secret" not in str(raised.value)


def test_token_goes_to_the_official_hub_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that nobody vouched for must not collect tokens."""
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    assert hub_endpoint({}).token() == "hf_planted"
    assert hub_endpoint({"HF_ENDPOINT": "https://mirror.example"}).token() is False
    assert Endpoint("http://127.0.0.1:1", "sample").token() is False


def test_token_goes_to_a_mirror_that_somebody_vouched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust is in one URL, not in a prefix of it, nor in whatever HF_ENDPOINT is next week."""
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    mirror = "https://mirror.example"
    for trusted, token in (
        (mirror, "hf_planted"),
        (f"{mirror}/", "hf_planted"),
        ("", False),
        ("1", False),
        ("https://mirror", False),
        (f"{mirror}.org", False),
        ("http://mirror.example", False),
    ):
        endpoint = hub_endpoint({"HF_ENDPOINT": mirror, TRUST_VARIABLE: trusted})
        assert endpoint.token() == token, trusted
    nobody = hub_endpoint({"HF_ENDPOINT": mirror})
    assert f"to send it there: {TRUST_VARIABLE}={mirror}" in nobody.why_no_token()


def test_token_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors say which token was refused by where it comes from."""
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    assert hub_endpoint({}).token_name == "HF_TOKEN"
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in hub_endpoint({}).token_name
    assert "hf_planted" not in repr(hub_endpoint({}))


def test_sample_makes_only_the_repository_it_serves(tmp_path: Path) -> None:
    """A user who wants the small dataset does not wait for a 286 MB checkpoint."""
    settings = Settings("sample", tmp_path)
    with open_endpoint(settings, HUMANEVAL) as endpoint:
        assert endpoint.kind == "sample"
    assert sorted(path.name for path in (tmp_path / ".wmtp/hub").iterdir()) == [".lock", "datasets"]


def test_sample_names_what_it_has(tmp_path: Path) -> None:
    """A new spec without a sample repository must not fail with a 404."""
    other = Repository(id="owner/unknown", type="model", license="MIT", size="1 MB")
    with (
        pytest.raises(SpecError, match=r"no model owner/unknown; it has .*openai_humaneval"),
        open_endpoint(Settings("sample", tmp_path), other),
    ):
        raise AssertionError("opened")
