"""Kafka Connect's REST interface, as far as connectors go."""

import base64
import json
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import quote, urlsplit, urlunsplit

from loaders.errors import CdwError

# A worker that joins or leaves keeps all others from answering for some seconds.
_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5


class Rest:
    """One Kafka Connect cluster, asked through any of its workers."""

    def __init__(self, url: str) -> None:
        """``url`` may carry a name and a password, which are in no message."""
        parts = urlsplit(url)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if parts.username is not None:
            pair = f"{parts.username}:{parts.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        self.url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        if parts.scheme not in {"http", "https"}:
            raise CdwError(
                "this is no address of Kafka Connect",
                where="CDW_CONNECT_URL",
                do="set it to http://HOST:8083 or https://…, any worker of the cluster",
            )

    def ask(self, method: str, *path: str, body: object = None) -> object:
        """The answer's JSON; None for what is not there (404), and for an answer without content.

        Raises:
            CdwError: it does not answer, or refuses.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        url = "/".join([self.url, *(quote(part, safe="?=&") for part in path)])
        # Only http and https: seen to above.
        request = urllib.request.Request(  # noqa: S310
            url,
            method=method,
            headers=self._headers,
            data=None if body is None else json.dumps(body).encode(),
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as response:  # noqa: S310
                    answer: object = json.loads(response.read() or b"null")
                    return answer
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                # A rebalance is under way: it asks to be asked again.
                if error.code != 409 or time.monotonic() > deadline:
                    raise self._refusal(error.code) from None
            except (OSError, HTTPException, ValueError) as error:
                raise CdwError(
                    f"Kafka Connect does not answer ({type(error).__name__})",
                    where=self.url,
                    do="start a worker there, or set CDW_CONNECT_URL to the address of one",
                ) from None
            time.sleep(_PAUSE_SECONDS)

    def _refusal(self, code: int) -> CdwError:
        match code:
            case 401 | 403:
                what, do = (
                    "Kafka Connect lets nobody in by that name",
                    "set CDW_CONNECT_URL to https://NAME:PASSWORD@…",
                )
            case 409:
                what, do = (
                    "Kafka Connect is rebalancing and does not come to rest",
                    "see to its workers, then again",
                )
            case _:
                what, do = (
                    f"Kafka Connect refuses what it was asked (HTTP {code})",
                    "see the log of its worker",
                )
        return CdwError(what, where=self.url, do=do)
