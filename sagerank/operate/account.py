"""One AWS account in one region, and botocore's errors as sentences."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from json import JSONDecodeError
from typing import Any
from urllib.parse import urlsplit

from sagerank import aws

from . import OperateError

_NO_CREDENTIALS = f"No AWS credentials were found: {aws.SIGN_IN}."
_SIGNED_OUT = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "SSOTokenLoadError",
    "UnauthorizedSSOTokenError",
    "TokenRetrievalError",
    "LoginRefreshTokenExpired",
)
_EXPIRED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidSignatureException",
)


class Account:
    """An AWS account in one region, by its clients: they are made when asked for, and kept. Raises InvalidRequest where no region is known."""

    def __init__(
        self, region: str | None = None, *, profile: str | None = None, endpoint_url: str | None = None
    ) -> None:
        import boto3

        self._session = boto3.Session(botocore_session=aws.session(region, profile))
        self.region: str = self._session.region_name
        self.profile, self.endpoint_url = profile, endpoint_url
        self._clients: dict[str, Any] = {}

    def sign_in(self) -> None:
        """Raise OperateError where there are no credentials. AWS is not asked."""
        with sentences():
            if self._session.get_credentials() is None:
                raise OperateError(_NO_CREDENTIALS)

    def client(self, service: str) -> Any:
        if service not in self._clients:
            from botocore.config import Config

            # SageMaker itself gives up on an invocation after 60 s; a little more lets its own error come through.
            config = Config(
                read_timeout=65, connect_timeout=3, retries={"mode": "standard", "total_max_attempts": 3}
            )
            self._clients[service] = self._session.client(
                service, endpoint_url=self.endpoint_url, config=config
            )
        return self._clients[service]

    def pages(self, service: str, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
        """Yield the items of every page."""
        for page in self.client(service).get_paginator(operation).paginate(**arguments):
            yield from page.get(key, ())

    @cached_property
    def number(self) -> str:
        """The account's twelve digits."""
        return str(self.client("sts").get_caller_identity()["Account"])


def of(options: argparse.Namespace) -> Account:
    """The account that a command's options mean."""
    return Account(options.region, profile=options.profile, endpoint_url=options.endpoint_url)


@contextmanager
def sentences() -> Iterator[None]:
    """Turn what botocore raises inside into an OperateError."""
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if code in _EXPIRED:
            raise OperateError(
                f"AWS does not accept the credentials ({code}): sign in again, with `aws sso login` or `aws configure`, or give another --profile."
            ) from None
        if "AccessDenied" in code or code == "UnauthorizedOperation":
            raise OperateError(f"AWS refused {error.operation_name} ({code}): {message}") from None
        raise OperateError(f"AWS answered {error.operation_name} with {code}: {message}") from None
    except (ConnectionError, HTTPClientError) as error:
        # The host alone: a proxy's address may hold a password.
        address = error.kwargs.get("endpoint_url") or error.kwargs.get("proxy_url") or ""
        raise OperateError(
            f"AWS could not be reached at {urlsplit(str(address)).hostname} ({type(error).__name__}): check network, proxy and region."
        ) from None
    except ResponseParserError:
        raise OperateError(
            "What answered in AWS's place is not AWS: check AWS_ENDPOINT_URL, and whether a proxy or a sign-in page stands between."
        ) from None
    except ValueError as error:
        # botocore's of an address, and of what a credential_process printed; any other is not about AWS.
        if not (str(error).startswith(("Invalid endpoint", "Port ")) or isinstance(error, JSONDecodeError)):
            raise
        raise OperateError(aws.MALFORMED) from None
    except BotoCoreError as error:
        if type(error).__name__ in _SIGNED_OUT:
            raise OperateError(_NO_CREDENTIALS) from None
        raise OperateError(f"{type(error).__name__}: {error}") from None


def look_up(operation: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The operation's answer, or None where what it asks for does not exist."""
    from botocore.exceptions import ClientError

    try:
        return operation(*arguments, **named)
    except ClientError as error:
        if absent(error):
            return None
        raise


def absent(error: Any) -> bool:
    """Whether a ClientError says that the thing asked for does not exist."""
    details = error.response["Error"]
    code, message = details.get("Code", ""), details.get("Message", "").lower()
    if code in ("ValidationError", "ValidationException"):
        return any(
            words in message
            for words in ("could not find", "could not be found", "does not exist", "not found")
        )
    return "NotFound" in code or code.startswith("NoSuch") or code == "404"
