"""What HTTP says, as far as a download needs it: which answers are worth another try, and where it may lead.

Connections go through the proxies of the environment, over http and https alone.
"""

from __future__ import annotations

import re
import ssl
import urllib.parse
import urllib.request
from typing import Any

from dermask.errors import InputError


class BrokenError(Exception):
    """The connection broke or the server is busy: worth another attempt."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        self.wait = wait
        super().__init__(problem)


class ElsewhereError(Exception):
    """The server says that it does not have the file."""


def check_url(url: str, item: str) -> None:
    """Check that an address is one of http or https and names a host.

    Raises:
        InputError: It is not; names `item`.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        is_good = is_good and parts.username is None  # it would end up in the record
    except ValueError:
        is_good = False
    if not is_good or not url.isprintable() or " " in url:
        raise InputError(item, f"{url!r} is no address", "write it as https://host/folder")


def validators_of(headers: Any) -> dict[str, str]:
    """What tells one version of a file from another. A weak ETag does not, byte by byte."""
    etag, modified = headers.get("ETag") or "", headers.get("Last-Modified") or ""
    found = {"etag": etag if etag.startswith('"') else "", "last_modified": modified}
    return {name: value for name, value in found.items() if value}


def whole_number(text: str | None) -> int | None:
    """A header's count of bytes or seconds; None where there is none that can be used."""
    return int(text) if text and re.fullmatch(r"\d{1,18}", text) else None


def retry_after(text: str | None) -> float | None:
    """Seconds that a server asks to wait, if it says so in seconds."""
    seconds = whole_number(text)  # the form with a date is rare; the usual wait does for it
    return None if seconds is None else float(seconds)


def connection_error(url: str, reason: object) -> Exception:
    """What to raise for a connection that failed: a certificate that is not valid stays so, the rest may pass."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        cure = "check the clock, or name your network's certificates in SSL_CERT_FILE"
        return InputError(url, f"its certificate is not valid: {reason.verify_message}", cure)
    if isinstance(reason, TimeoutError):
        return BrokenError("the server does not answer in time")
    text = str(reason) or type(reason).__name__
    return BrokenError(f"the connection broke: {text}")


class FewRedirects(urllib.request.HTTPRedirectHandler):
    """Follows at most `max_redirections` redirects, and none from https to anything else."""

    max_redirections = 5
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows a redirect, as the standard library makes it.

        Raises:
            InputError: It leads to another scheme that is not https.
        """
        was, now = urllib.parse.urlsplit(req.full_url).scheme, urllib.parse.urlsplit(newurl).scheme
        if now != "https" and now != was:
            fp.close()
            raise InputError(req.full_url, f"leads from {was} to {newurl!r}", "name another place with --source")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def make_opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone, through the proxies of the environment: no file:, ftp: or data: by way of a redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        FewRedirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
