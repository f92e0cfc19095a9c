"""What is a URL, and which are refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from nuclei_runtime.errors import InputsError
from nuclei_runtime.stores.remote import RemoteFolder
from nuclei_runtime.stores.url import is_url


@pytest.mark.parametrize(
    "text",
    ["C:\\images", "C:/images", "C://images", "images", "/data/images", "\\\\server\\share", "a:b.tif", "a b://c", ""],
)
def test_a_path_is_no_url(text: str) -> None:
    assert not is_url(text)
    assert not is_url(Path(text))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("s3://bucket/folder/", "s3://bucket/folder"),
        ("s3://bucket//", "s3://bucket"),
        ("file:///data/a b", "file:///data/a b"),
        ("file:///", "file:///"),
        ("memory://x", "memory://x"),
        ("https://host:8080/folder", "https://host:8080/folder"),
        ("sftp://user@host/folder", "sftp://user@host/folder"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
    ],
)
def test_a_url_names_a_folder(text: str, url: str) -> None:
    assert is_url(text)
    folder = RemoteFolder(text)
    assert str(folder) == folder.url == url
    assert pickle.loads(pickle.dumps(folder)) == folder
    assert folder.name_of(folder.folder("a/b")) == "a/b"
    assert folder.name_of(folder) == ""
    assert folder.folder("a").name_of(folder.folder("ab")) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("s3://AKIAEXAMPLE:topsecret@bucket/x", "a user name and a secret"),
        ("s3://AKIAEXAMPLE:top/secret@bucket/x", "a user name and a secret"),
        ("ftp://user:1234@host/x", "a user name and a secret"),
        ("https://host/x.tif?X-Amz-Signature=topsecret", "https://host/x.tif: contains a question mark"),
        ("s3://bucket/x?versionId=topsecret", "may be secret"),
        ("simplecache::s3://bucket/x", "names one store within another"),
        ("zip://a.tif::s3://bucket/x", "names one store within another"),
    ],
)
def test_a_url_that_may_hold_a_secret_is_refused_without_repeating_it(text: str, problem: str) -> None:
    assert is_url(text)
    with pytest.raises(InputsError) as refused:
        RemoteFolder(text)
    assert problem in str(refused.value)
    assert not any(secret in str(refused.value) for secret in ("secret@", "topsecret", "AKIA", "1234"))
