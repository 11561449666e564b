"""The report over HTTP on this machine alone: all samples, and the numbers of a run in progress as they come.

It reads, and never writes to the run: ended or killed, it leaves the run as it was.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import duckdb

from selftrain.errors import SelftrainError, UserError
from selftrain.loop import controlled
from selftrain.records import digest
from selftrain.report import page
from selftrain.report.browse import choices, problems_of, samples_of, search
from selftrain.report.content import Content, content
from selftrain.report.view import View, is_locked
from selftrain.store import Store

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
PULSE = 1.0
"""Seconds between two looks at the run; after a look that took long, four times as long."""
SHOWN_FILES = (".yaml", ".json", ".jsonl", ".log", ".txt", ".md")
TAIL = 500_000
"""Bytes of a file that are shown: its last ones."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run as it was at one moment."""

    revision: str
    view: View
    content: Content

    def data(self) -> dict[str, Any]:
        """What the sample browser begins with."""
        total = self.view.database.one("SELECT count(*) FROM attempts")
        return {
            "served": True,
            "revision": self.revision,
            "says": f"All {total:,} samples, read from the run's tables as you ask.",
            "choices": choices(self.view),
        }


class Server(ThreadingHTTPServer):
    """Serves one run; `with serving(...)` makes one and ends it."""

    daemon_threads = True

    def __init__(self, root: Path, *, port: int = 0, price: float | None = None) -> None:
        super().__init__((ADDRESS, port), _Handler)
        self.root = root.resolve()
        self.price = price
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        self.trouble = ""
        """Why the last look failed, until one succeeds."""
        self._ended = threading.Event()
        try:
            self.snapshot = self._look(revision(self.root))
        except BaseException:
            self.server_close()
            raise
        self._watcher = threading.Thread(target=self._watch, name="report-watcher", daemon=True)
        self._watcher.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{ADDRESS}:{self.server_port}/"

    def end(self) -> None:
        """Stop watching and let go of the port."""
        self._ended.set()
        self.server_close()
        self._watcher.join()

    def _watch(self) -> None:
        """Look again whenever something was stored."""
        pause = PULSE
        while not self._ended.wait(pause):
            begun = time.monotonic()
            try:
                now = revision(self.root)
                if now != self.snapshot.revision:
                    # The old one goes when the last request that reads it is answered.
                    self.snapshot = self._look(now)
                self.trouble = ""
            except (SelftrainError, OSError, duckdb.Error) as error:
                # A folder may go while it is read (a stage deleted, to be redone): the next look tells more.
                self.trouble = str(error)
                log.warning("%s could not be read: %s", self.root, error)
            pause = max(PULSE, 4 * (time.monotonic() - begun))

    def _look(self, now: str) -> Snapshot:
        view = View.open(self.root)
        return Snapshot(now, view, content(view, price=self.price))


@contextmanager
def serving(root: Path, *, port: int = 0, price: float | None = None) -> Iterator[Server]:
    """Make a server of a run's report; raises StoreError if there is no run, UserError if the port is taken."""
    Store.open(root)
    try:
        server = Server(root, port=port, price=price)
    except OSError as error:
        raise UserError(f"port {port} of {ADDRESS} can't be used: {error.strerror}; choose another --port") from error
    try:
        yield server
    finally:
        server.end()


def revision(root: Path) -> str:
    """Return a hash that changes when a stage or a shard is stored, or the run begins or ends."""
    store = Store(root)
    stages = [
        (number, name, len(folder.shards()), folder.done())
        for number in store.rounds()
        for name, folder in store.stages(number).items()
    ]
    return digest(stages, is_locked(root / ".lock"), (root / controlled.FILE).exists())


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer, or say why not."""
        # Another site's name that leads here (DNS rebinding) is in the Host header.
        if self.headers.get("Host", "") not in self.server.hosts:
            self._refuse(HTTPStatus.FORBIDDEN, f"this server answers to {ADDRESS} alone")
            return
        asked = urlsplit(self.path)
        answers = {
            "/": self._page,
            "/state.json": self._state,
            "/report.json": self._report,
            "/search.json": self._search,
            "/problem.json": self._problem,
        }
        try:
            if asked.path in answers:
                answers[asked.path](dict(parse_qsl(asked.query)))
            elif asked.path.startswith("/files/"):
                self._file(unquote(asked.path.removeprefix("/files/")))
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        except UserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (OSError, ValueError, duckdb.Error) as error:
            log.warning("%s: %s", self.path, error)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")

    def _page(self, values: dict[str, str]) -> None:
        now = self.server.snapshot
        title = f"{now.view.name}: selftrain report"
        text = page.page(title=title, head=now.content.head, sections=now.content.sections, data=now.data())
        self._send(text.encode(), "text/html")

    def _state(self, values: dict[str, str]) -> None:
        self._json({"revision": self.server.snapshot.revision, "trouble": self.server.trouble})

    def _report(self, values: dict[str, str]) -> None:
        now = self.server.snapshot
        sections = now.content.sections
        self._json(
            {
                "revision": now.revision,
                "head": page.head_html(now.content.head),
                "sections": page.sections_html(sections),
                "charts": page.charts(sections),
                "data": now.data(),
            }
        )

    def _search(self, values: dict[str, str]) -> None:
        offset = values.pop("offset", "0")
        if not offset.isdigit():
            raise UserError(f"offset is {offset!r}; it is a number of problems to leave out")
        found = search(self.server.snapshot.view, values, offset=int(offset))
        self._json({"problems": found.problems, "samples": found.samples, "page": found.page})

    def _problem(self, values: dict[str, str]) -> None:
        view, id = self.server.snapshot.view, values.get("id", "")
        if not (problems := problems_of(view, [id])):
            raise UserError(f"the run has no problem {id!r}")
        self._json({"problem": problems[0], "samples": samples_of(view, [id])})

    def _file(self, name: str) -> None:
        root = self.server.root
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            self._refuse(HTTPStatus.FORBIDDEN, "that lies outside the run's folder")
        elif path.suffix not in SHOWN_FILES or not path.is_file():
            self._refuse(HTTPStatus.NOT_FOUND, "the run has no such text file")
        else:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - TAIL))
                self._send(file.read(TAIL), "text/plain")

    def _json(self, value: Any) -> None:
        self._send(page.as_script(value).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(f"{why}\n".encode(), "text/plain", status)

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: Any) -> None:
        log.debug(format, *values)
