"""What is undocumented and used of ``huggingface_hub``: where a new version breaks it, this says
what is broken by that, before a download of 27 GB does."""

from __future__ import annotations

import inspect
import io
import re
from importlib import import_module
from typing import Any

import pytest

from wmtp_assets.hub import client

PARAMETERS = {
    "file_download.http_get": {
        "url",
        "temp_file",
        "resume_size",
        "headers",
        "expected_size",
        "displayed_filename",
        "tqdm_class",
    },
    "utils.build_hf_headers": {"token"},
    "hf_hub_url": {"repo_id", "filename", "repo_type", "revision", "endpoint"},
    "set_client_factory": {"client_factory"},
    "utils._http.default_client_factory": set(),
    "get_token": set(),
    "is_offline_mode": set(),
    "hf_api.HfApi.model_info": {"repo_id", "revision", "files_metadata", "timeout"},
    "hf_api.HfApi.dataset_info": {"repo_id", "revision", "files_metadata", "timeout"},
    "hf_api.HfApi.auth_check": {"repo_id", "repo_type", "write"},
    "hf_api.HfApi.repo_info": {"repo_id", "repo_type", "revision"},
    "hf_api.HfApi.list_repo_tree": {"repo_id", "repo_type", "revision", "recursive"},
    "hf_api.HfApi.create_repo": {"repo_id", "repo_type", "private", "exist_ok"},
    "hf_api.HfApi.create_branch": {"repo_id", "repo_type", "branch", "exist_ok"},
    "hf_api.HfApi.preupload_lfs_files": {
        "repo_id",
        "repo_type",
        "additions",
        "revision",
        "free_memory",
    },
    "hf_api.HfApi.create_commit": {
        "repo_id",
        "repo_type",
        "operations",
        "commit_message",
        "revision",
        "parent_commit",
    },
    "hf_api.HfApi.whoami": {"token"},
}
"""Name below ``huggingface_hub`` → parameters that are given to it."""

CONSTANTS = {
    "DOWNLOAD_CHUNK_SIZE": ("file_download", int, "bytes that are kept of a line that is cut"),
    "HF_HUB_DISABLE_TELEMETRY": ("utils._headers", bool, "a mirror is asked for files only"),
    "HF_HUB_DOWNLOAD_TIMEOUT": ("file_download", int, "a silent hub is given up"),
}
"""Name → module that must read it when it runs, its type, and what depends on it."""


def find(name: str) -> Any:
    """What ``huggingface_hub`` has under a name."""
    found: Any = import_module("huggingface_hub")
    for number, part in enumerate(parts := name.split(".")):
        if not hasattr(found, part):
            module = ".".join(["huggingface_hub", *parts[: number + 1]])
            try:
                found = import_module(module)
            except ImportError:
                pytest.fail(f"huggingface_hub has no {name} any longer: see hub/client.py")
        else:
            found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", PARAMETERS)
def test_function(name: str) -> None:
    """It is there, and takes what it is given."""
    parameters = inspect.signature(find(name)).parameters
    missing = PARAMETERS[name] - parameters.keys()
    assert not missing, f"huggingface_hub.{name} takes no {missing} any longer: see hub/client.py"
    for required in (p for p in parameters.values() if p.default is p.empty):
        is_given = required.name in (*PARAMETERS[name], "self") or required.kind in (
            required.VAR_KEYWORD,
            required.VAR_POSITIONAL,
        )
        assert is_given, f"huggingface_hub.{name} also needs {required.name}: see hub/client.py"


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant(name: str) -> None:
    """It is there, and read where it is used each time: another value set before has an effect."""
    module, kind, why = CONSTANTS[name]
    assert isinstance(getattr(find("constants"), name, None), kind), f"{name} is gone: {why}"
    source = inspect.getsource(find(module))
    assert f"constants.{name}" in source, f"{module} does not read constants.{name}: {why}"


def test_http_get_writes_to_what_it_is_given() -> None:
    """The engine's file has no more than these four, and a fifth would be called on it."""
    source = inspect.getsource(find("file_download.http_get"))
    methods = set(re.findall(r"temp_file\.(\w+)\(", source))
    assert methods == {"write", "tell", "seek", "truncate"}, (
        f"http_get calls {methods} of the file that it writes to: see transfer/arrival.py, Partial"
    )


def test_http_get_asks_for_the_rest_only() -> None:
    """A whole file is not asked for again."""
    find("file_download.http_get")(
        "http://127.0.0.1:9", io.BytesIO(), resume_size=3, expected_size=3
    )


def test_errors() -> None:
    """What each of them is a kind of decides which message people see."""
    from huggingface_hub import errors

    kinds = {
        "GatedRepoError": errors.RepositoryNotFoundError,
        "RepositoryNotFoundError": errors.HfHubHTTPError,
        "RevisionNotFoundError": errors.HfHubHTTPError,
        "EntryNotFoundError": Exception,
        "OfflineModeIsEnabled": ConnectionError,
        "HfHubHTTPError": Exception,
    }
    for name, kind in kinds.items():
        assert issubclass(getattr(client, name), kind), (
            f"{name} is not a {kind.__name__} any longer"
        )
    answer = client.HfHubHTTPError.__init__.__annotations__
    assert "response" in answer, "HfHubHTTPError has no response any longer: status_of reads it"


def test_file_of_a_commit() -> None:
    """Whether it lies in LFS, and whether the client would leave it out, is read from it; its bytes
    and its hash are set."""
    addition = client.CommitOperationAdd("a", b"")
    for name in ("_upload_mode", "_should_ignore", "path_or_fileobj", "upload_info"):
        assert hasattr(addition, name), f"{name} is gone: see hub/commits.py, RemoteBranch"


def test_file_of_a_repository() -> None:
    """Size and hash are read from it."""
    file = client.RepoSibling(rfilename="a")
    assert (file.rfilename, file.size, file.blob_id, file.lfs) == ("a", None, None, None)


def test_progress_bar_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is said in our own lines."""
    with client._SilentBar(total=10, desc="a", name="huggingface_hub.http_get") as bar:
        bar.update(10)
    assert capsys.readouterr().err == ""


def test_constants_are_restored() -> None:
    """Also after a failure: another download of this process may want its own."""
    from huggingface_hub import constants

    before = constants.DOWNLOAD_CHUNK_SIZE
    with (
        pytest.raises(KeyError),
        client._constants(DOWNLOAD_CHUNK_SIZE=client.CHUNK),
    ):
        assert constants.DOWNLOAD_CHUNK_SIZE == client.CHUNK != before
        raise KeyError
    assert before == constants.DOWNLOAD_CHUNK_SIZE
