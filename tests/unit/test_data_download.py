"""Fetching over HTTP from a server on this machine that breaks off, lies, changes and refuses."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import threading
import urllib.error

import numpy as np
import pytest
from archive_server import Served, serving

from dermask.data import download, http_answers
from dermask.data.download import Patience, fetch, notes_of
from dermask.data.http_answers import check_url
from dermask.errors import InputError

BODY = np.random.default_rng(0).bytes(700_000)
FIRST = BODY[:300_000]
QUICK = Patience(timeout=5, attempts=3, first_wait=1.0)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Run:
    """One call of `fetch` against one served file, and what it told."""

    def __init__(self, part, **options):
        self.part = part
        self.options = {"most_bytes": 10**6, "patience": QUICK, "sleep": self._sleep} | options
        self.waits = []
        self.progress = []

    def _sleep(self, seconds):
        self.waits.append(seconds)

    def __call__(self, *urls):
        return fetch(urls, self.part, on_progress=lambda *counts: self.progress.append(counts), **self.options)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "a.zip.part")


def left_by_an_earlier_run(part, content=FIRST, **notes):
    part.write_bytes(content)
    if notes:
        notes_of(part).write_text(json.dumps(notes))


def is_whole(fetched, body=BODY):
    assert fetched.path.read_bytes() == body
    assert fetched.size == len(body)
    assert fetched.sha256 == hashlib.sha256(body).hexdigest()
    assert fetched.md5 == hashlib.md5(body).hexdigest()
    assert not notes_of(fetched.path).exists()
    return True


@pytest.mark.parametrize("body", [b"", b"P", BODY], ids=["empty", "one byte", "long"])
def test_a_file_arrives_with_its_sums(run, body):
    with serving({"/a.zip": Served(body)}) as server:
        fetched = run(f"{server}/a.zip")
        assert fetched.url == f"{server}/a.zip"
    assert is_whole(fetched, body)
    assert not fetched.was_resumed
    assert run.waits == []


def test_progress_counts_up_to_the_whole(run):
    with serving({"/a.zip": Served(BODY)}) as server:
        run(f"{server}/a.zip")
    counts = [done for done, _ in run.progress]
    assert counts == sorted(counts)
    assert run.progress[-1] == (len(BODY), len(BODY))


# Going on


def test_what_an_earlier_run_left_is_not_sent_again(run):
    served = Served(BODY)
    left_by_an_earlier_run(run.part, etag='"one"')
    with serving({"/a.zip": served}) as server:
        fetched = run(f"{server}/a.zip")
    assert is_whole(fetched)
    assert fetched.was_resumed
    assert served.requests[0]["Range"] == "bytes=300000-"
    assert served.requests[0]["If-Range"] == '"one"'
    assert served.requests[0]["Accept-Encoding"] == "identity"


def test_last_modified_does_where_there_is_no_strong_etag(run):
    served = Served(BODY, etag='W/"weak"', modified="Mon, 02 Jan 2023 03:04:05 GMT", cuts=[200_000])
    with serving({"/a.zip": served}) as server:
        assert is_whole(run(f"{server}/a.zip"))
    assert "If-Range" not in served.requests[0]
    assert served.requests[1]["If-Range"] == "Mon, 02 Jan 2023 03:04:05 GMT"


def test_a_connection_that_is_cut_again_and_again_is_gone_on_with(run):
    served = Served(BODY, cuts=[100_000, 250_000, 1, 100_000])
    with serving({"/a.zip": served}) as server:
        fetched = run(f"{server}/a.zip")
    assert is_whole(fetched)
    assert [request.get("Range") for request in served.requests] == [
        None, "bytes=100000-", "bytes=350000-", "bytes=350001-", "bytes=450001-",
    ]  # fmt: skip
    assert run.waits == [1.0] * 4  # each brought something


def test_a_part_that_is_complete_needs_nothing_but_the_servers_word(run):
    left_by_an_earlier_run(run.part, BODY, etag='"one"')
    served = Served(BODY)
    with serving({"/a.zip": served}) as server:
        fetched = run(f"{server}/a.zip")
    assert is_whole(fetched)
    assert fetched.was_resumed
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    ("left", "notes", "served"),
    [
        (FIRST, {"etag": '"old"'}, Served(BODY)),
        (FIRST, {"etag": '"old"'}, Served(BODY, if_range=False)),
        (FIRST, {"last_modified": "long ago"}, Served(BODY, etag="", modified="today", if_range=False)),
        (FIRST, {}, Served(BODY, ranges=False)),
        (BODY + b"x", {"etag": '"one"'}, Served(BODY)),
        (BODY, {"etag": '"old"'}, Served(BODY)),
        (b"x" * len(BODY), {"etag": '"old"'}, Served(BODY, if_range=False)),
        (FIRST, {}, Served(BODY, range_shift=7)),
        (FIRST, {}, Served(BODY, headers={"Content-Range": "pages 3-4"})),
        (b"x" * (10**6 + 1), {"etag": '"one"'}, Served(BODY)),
    ],
    ids=[
        "another ETag",
        "another ETag, If-Range ignored",
        "another date, If-Range ignored",
        "ranges ignored",
        "longer than the file",
        "as long as another version",
        "as long as another version, If-Range ignored",
        "another range than asked for",
        "a range of something else",
        "longer than allowed",
    ],
)
def test_what_does_not_fit_the_servers_file_is_begun_again(run, left, notes, served):
    left_by_an_earlier_run(run.part, left, **notes)
    if served.range_shift or served.headers:
        served.hook = lambda number: number and served.__dict__.update(range_shift=0, headers={})
    with serving({"/a.zip": served}) as server:
        fetched = run(f"{server}/a.zip")
    assert is_whole(fetched)
    assert not fetched.was_resumed
    assert sum(run.waits) == 0


def test_a_file_that_changes_between_two_pieces_is_begun_again(run):
    served = Served(FIRST + BODY, cuts=[200_000])
    served.hook = lambda number: number == 1 and served.__dict__.update(body=BODY, etag='"two"')
    with serving({"/a.zip": served}) as server:
        fetched = run(f"{server}/a.zip")
    assert is_whole(fetched)
    assert served.requests[1]["If-Range"] == '"one"'
    assert not fetched.was_resumed


@pytest.mark.parametrize(
    "notes", ["", "[]", '{"etag": 3}', '{"etag": "a\\nb"}'], ids=["empty", "list", "3", "line end"]
)
def test_notes_that_cannot_be_used_are_left_out(run, notes):
    run.part.write_bytes(FIRST)
    notes_of(run.part).write_text(notes)
    served = Served(BODY)
    with serving({"/a.zip": served}) as server:
        assert is_whole(run(f"{server}/a.zip"))
    assert "If-Range" not in served.requests[0]


def test_ctrl_c_leaves_what_has_arrived(run):
    def stop(done, total):
        if done > 200_000:
            raise KeyboardInterrupt

    with serving({"/a.zip": Served(BODY)}) as server:
        with pytest.raises(KeyboardInterrupt):
            fetch([f"{server}/a.zip"], run.part, most_bytes=10**6, on_progress=stop)
        there = run.part.stat().st_size
        assert BODY.startswith(run.part.read_bytes())
        assert 200_000 < there < len(BODY)
        fetched = run(f"{server}/a.zip")
    assert is_whole(fetched)
    assert fetched.was_resumed


# Servers that are busy, slow, or have it elsewhere


def test_a_busy_server_is_asked_again_after_longer_and_longer_waits(run):
    served = Served(BODY, statuses=[500, 503])
    with serving({"/a.zip": served}) as server:
        told = []
        run.options["on_wait"] = lambda *what: told.append(what)
        assert is_whole(run(f"{server}/a.zip"))
    assert run.waits == [1.0, 2.0]
    assert told == [
        ("the server answered 500 Internal Server Error", 1.0),
        ("the server answered 503 Service Unavailable", 2.0),
    ]


def test_a_server_may_say_how_long_to_wait_but_not_for_ever(run):
    served = Served(BODY, statuses=[429, 503], headers={"Retry-After": "7000"})
    with serving({"/a.zip": served}) as server:
        assert is_whole(run(f"{server}/a.zip"))
    assert run.waits == [60.0, 60.0]


def test_a_server_that_stays_busy_is_given_up_in_one_line(run):
    with serving({"/a.zip": Served(BODY, statuses=[503] * 9)}) as server:
        expected = (
            r"^a\.zip: http://127\.0\.0\.1:\d+/a\.zip: the server answered 503 Service Unavailable, after 3 attempts "
            r"in a row that brought nothing new; with 0 bytes here, run the same command again to go on from "
            r"there, or name another place with --source$"
        )
        with pytest.raises(InputError, match=expected):
            run(f"{server}/a.zip")


def test_a_server_that_always_cuts_at_one_place_is_given_up_and_the_part_stays(run):
    served = Served(BODY, ranges=False, cuts=[100_000] * 9)
    with serving({"/a.zip": served}) as server, pytest.raises(InputError, match="ended at 100,000 of 700,000 bytes"):
        run(f"{server}/a.zip")
    assert run.part.read_bytes() == BODY[:100_000]
    assert len(served.requests) == 3


@pytest.mark.parametrize(("length", "outcome"), [(800_000, "ended at 700,000 of 800,000"), (600_000, None)])
def test_a_wrong_content_length_is_noticed_or_cuts_the_file(run, length, outcome):
    served = Served(BODY, length=length, etag="", ranges=False)
    with serving({"/a.zip": served}) as server:
        if outcome:
            with pytest.raises(InputError, match=outcome):
                run(f"{server}/a.zip")
        else:
            assert is_whole(run(f"{server}/a.zip"), BODY[:length])  # whose sum will differ


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_the_next_address_is_tried_where_the_first_has_nothing(run, status):
    with serving({"/a.zip": Served(b"", statuses=[status]), "/b.zip": Served(BODY)}) as server:
        assert is_whole(run(f"{server}/a.zip", f"{server}/b.zip"))
    assert run.waits == []


def test_the_next_address_is_tried_where_the_first_breaks(run):
    served = Served(BODY, statuses=[200, 500, 500, 500], cuts=[100_000])
    with serving({"/a.zip": served, "/b.zip": Served(BODY)}) as server:
        fetched = run(f"{server}/a.zip", f"{server}/b.zip")
    assert is_whole(fetched)
    assert fetched.was_resumed


def test_no_server_that_has_it_is_one_line(run):
    expected = (
        r"^a\.zip: http://[\d.:]+/x/a\.zip answered 404 Not Found; http://[\d.:]+/y/a\.zip answered 404 Not Found; "
        r"name another place with --source, or try again later$"
    )
    with serving({}) as server, pytest.raises(InputError, match=expected):
        run(f"{server}/x/a.zip", f"{server}/y/a.zip")


@pytest.mark.parametrize("status", [400, 407, 451])
def test_other_refusals_end_it_at_once(run, status):
    served = Served(BODY, statuses=[status] * 9)
    with serving({"/a.zip": served}) as server, pytest.raises(InputError, match=rf"a\.zip: answered {status} \w"):
        run(f"{server}/a.zip")
    assert len(served.requests) == 1


def test_nobody_there_is_told(run):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(InputError, match=r"the connection broke: .*refused.*, after 3 attempts"):
        run(f"http://127.0.0.1:{port}/a.zip")
    assert run.waits == [1.0, 2.0]


class Silent:
    """A server that accepts, sends `head`, then a byte at a time."""

    def __init__(self, head=b"", pause=60.0):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/a.zip"
        self.head, self.pause = head, pause
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while not self.is_over.is_set():
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(10_000)
                try:
                    connection.sendall(self.head)
                    while self.head and not self.is_over.wait(self.pause):
                        connection.sendall(b"x")
                    if not self.head:
                        self.is_over.wait(self.pause)
                except OSError:
                    continue

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.is_over.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


def test_a_server_that_says_nothing_is_not_waited_for(run):
    run.options["patience"] = Patience(timeout=0.05, attempts=2)
    with Silent(pause=0.1) as silent, pytest.raises(InputError, match="the server does not answer in time, after 2"):
        run(silent.url)


def test_a_server_that_drips_counts_as_broken(run):
    run.options["patience"] = Patience(timeout=5, attempts=1, slow_seconds=0.1, slow_bytes=1000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nPK"
    with Silent(head, pause=0.02) as silent, pytest.raises(InputError, match=r"only \d+ bytes came in 0\.1 seconds"):
        run(silent.url)
    assert run.part.read_bytes().startswith(b"PKx")


def test_a_certificate_that_is_not_valid_ends_it_at_once(run, monkeypatch):
    error = ssl.SSLCertVerificationError("bad")
    error.verify_message = "self-signed certificate"

    def refuse(*_, **__):
        raise urllib.error.URLError(error)

    monkeypatch.setattr(download.urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(InputError, match=r"certificate is not valid: self-signed certificate; check the clock"):
        run("https://127.0.0.1/a.zip")
    assert run.waits == []


# Redirects


def test_a_redirect_is_followed_and_keeps_the_range(run):
    target = Served(BODY)
    left_by_an_earlier_run(run.part, etag='"one"')
    with serving({"/a.zip": Served(b"", location="/b.zip"), "/b.zip": target}) as server:
        fetched = run(f"{server}/a.zip")
    assert is_whole(fetched)
    assert fetched.url.endswith("/b.zip")
    assert target.requests[0]["Range"] == "bytes=300000-"


def test_redirects_in_a_circle_are_told(run):
    files = {"/a.zip": Served(b"", location="/b.zip"), "/b.zip": Served(b"", location="/a.zip")}
    with serving(files) as server, pytest.raises(InputError, match="leads in a circle, or through more than 5"):
        run(f"{server}/a.zip")
    assert sum(len(served.requests) for served in files.values()) <= 6


def test_a_long_chain_of_redirects_is_told(run):
    files = {f"/{number}": Served(b"", location=f"/{number + 1}") for number in range(9)}
    with serving(files) as server, pytest.raises(InputError, match="more than 5 addresses"):
        run(f"{server}/0")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip", "data:,x"])
def test_a_redirect_leaves_http_for_https_alone(run, location):
    with serving({"/a.zip": Served(b"", location=location)}) as server, pytest.raises(InputError) as caught:
        run(f"{server}/a.zip")
    assert "name another" in str(caught.value)
    assert run.part.read_bytes() == b""


def test_https_is_not_left_for_http():
    handler = http_answers.FewRedirects()
    request = download.urllib.request.Request("https://host/a.zip")
    closed = []
    answer = type("Answer", (), {"close": lambda self: closed.append(1)})()
    with pytest.raises(InputError, match=r"leads from https to 'http://host/a\.zip'; name another place"):
        handler.redirect_request(request, answer, 302, "Found", {}, "http://host/a.zip")
    assert closed == [1]


# What is not taken


@pytest.mark.parametrize(
    ("served", "problem"),
    [
        (
            Served(b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}),
            "gives a web page, not an archive; log",
        ),
        (Served(BODY, headers={"Content-Encoding": "gzip"}), "is sent as gzip, not as it is"),
        (Served(BODY, length=2 * 10**6), "has 2,000,000 bytes, and at most 1,000,000 are expected; check the address"),
        (Served(BODY, statuses=[204]), "answered 204"),
    ],
    ids=["web page", "compressed", "too long", "no content"],
)
def test_what_is_no_such_file_is_not_taken(run, served, problem):
    with serving({"/a.zip": served}) as server, pytest.raises(InputError, match=problem):
        run(f"{server}/a.zip")
    assert run.part.read_bytes() == b""


def test_more_than_allowed_is_not_written_where_no_length_is_announced(run):
    run.options["most_bytes"] = 1000
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\n\r\n" + bytes(5000)
    with Silent(head) as silent, pytest.raises(InputError, match="sends more than the 1,000 bytes expected"):
        run(silent.url)
    assert run.part.stat().st_size <= 1000


def test_a_full_disk_is_told_before_and_while_writing(run, monkeypatch):
    with serving({"/a.zip": Served(BODY)}) as server:
        with monkeypatch.context() as patch:
            patch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 5})())
            with pytest.raises(InputError, match=r"needs 700,000 more bytes, and 5 are free on its disk; make room"):
                run(f"{server}/a.zip")
        if not os.access("/dev/full", os.W_OK):
            return
        run.part.unlink()
        run.part.symlink_to("/dev/full")
        monkeypatch.setattr(download._Transfer, "take_up", lambda self: None)
        with pytest.raises(InputError, match=r"cannot be written: No space left on device; make room or choose"):
            run(f"{server}/a.zip")


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "a.zip.part").mkdir()
    with pytest.raises(InputError, match=r"a\.zip\.part: cannot be written: Is a directory"):
        Run(tmp_path / "a.zip.part")("http://127.0.0.1:9/a.zip")


def test_two_at_once_do_not_write_one_file(run):
    fcntl = pytest.importorskip("fcntl")
    with run.part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"is being written by another dermask; wait until"):
            run("http://127.0.0.1:9/a.zip")


@pytest.mark.parametrize(
    "url", ["", "ftp://host/x", "file:///x", "https://", "https:///x", "http://h:0/", "http://a b/", "http://me:x@h/"]
)
def test_an_address_is_http_with_a_host(url):
    with pytest.raises(InputError, match=r"--source: .* is no address; write it as https://host/folder"):
        check_url(url, "--source")
    check_url("https://host/x", "--source")


def test_a_proxy_of_the_environment_is_used(run, monkeypatch):
    served = Served(BODY)
    with serving({"http://elsewhere.invalid/a.zip": served}) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert is_whole(run("http://elsewhere.invalid/a.zip"))
