"""An artefact in S3, as far as its manifest: which of them it is, and what it promises."""

from __future__ import annotations

from typing import Any

from sagerank_inference.archive import manifest_of
from sagerank_inference.artefact import MANIFEST, MOST_BYTES

from .account import Account, look_up

_MOST_BEFORE = 64 << 20  # bytes in an archive before its manifest


def bucket_and_key(address: str) -> tuple[str, str]:
    """Bucket and key of s3://BUCKET/KEY or https://s3.REGION.amazonaws.com/BUCKET/KEY."""
    rest = address.partition("://")[2]
    if address.startswith("https://"):
        rest = rest.partition("/")[2]
    bucket, _, key = rest.partition("/")
    return bucket, key


def opened(account: Account, address: str) -> Any:
    """The object at an S3 address as a stream, or None where there is none."""
    bucket, key = bucket_and_key(address)
    answer = look_up(account.client("s3").get_object, Bucket=bucket, Key=key)
    return answer and answer["Body"]


def manifest_text(account: Account, address: str) -> bytes | None:
    """The manifest of the artefact at an address, unread; None where there is none.

    Of an archive only the first bytes are fetched: the manifest stands before the weights. Raises ArtefactError or OSError for
    what is no archive of ours.
    """
    single = address.endswith(".tar.gz")
    body = opened(account, address if single else f"{address.rstrip('/')}/{MANIFEST}")
    if body is None:
        return None
    text: bytes = manifest_of(body, address, most=_MOST_BEFORE) if single else body.read(MOST_BYTES + 1)
    return text
