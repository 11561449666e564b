"""Requests to a server, several at once: sent again where that may help, given up by all when the server is lost.

They run in threads that no exit waits for (an executor joins its own), on sockets that can be hung up: a server that
hangs holds up neither a run that ends nor a stage that is started again.
"""

import contextlib
import queue
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from functools import partial
from typing import Any, ParamSpec, TypeVar

import httpx

from selftrain import pulse
from selftrain.errors import ConfigError, EngineError, SelftrainError

P = ParamSpec("P")
T = TypeVar("T")

FIRST_WAIT = 0.5
CLOSED = "the sampler was closed while requests were open"
LEAVE = 1.0
"""Seconds that threads have to end when they were hung up."""
SOCKETS = ("connect_tcp.complete", "start_tls.complete")
"""Events of httpx's trace that bring a new socket."""
_starting: set["ServerLink"] = set()
"""Links whose server has not said yet what it serves: nobody else knows of them."""


def end_starting() -> None:
    """Close the links whose server is still being asked what it serves; whoever waits for one gets an error."""
    for link in list(_starting):
        link.close()


class Rejected(EngineError):
    """The request itself can't be answered: the server found it wrong (status 400 or 422), or its answer is no text."""


class _Passing(Exception):
    """Trouble that may be over when the request is sent again."""


class ServerLink:
    """A server's address, the connections to it, and what is open on them."""

    def __init__(self, url: str, *, key: str | None, timeout: float, tries: int, threads: int) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout,
            limits=httpx.Limits(max_connections=threads, max_keepalive_connections=threads),
        )
        self._tries, self._most = tries, threads
        self._answered = float("-inf")
        self._threads: list[threading.Thread] = []
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._open: set[Future[Any]] = set()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._why = CLOSED

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Let `end_starting` close it while the block runs; it is closed too if the block fails."""
        _starting.add(self)
        try:
            yield
        except BaseException:
            self.close()
            raise
        finally:
            _starting.discard(self)

    def submit(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> "Future[T]":
        """Have a call made in one of the threads, where it may `send`; its result is an error once all is over."""
        future: Future[T] = Future()
        with self._guard:
            if self._over.is_set():
                raise EngineError(self._why)
            self._open.add(future)
            if len(self._threads) < self._most:
                self._threads.append(threading.Thread(target=self._serve, name="server", daemon=True))
                self._threads[-1].start()
            self._waiting.put((future, partial(call, *arguments, **named)))
        return future

    def each(self, call: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """Return what a call returns for each item."""
        futures = [self.submit(call, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        read: Callable[[Any], Any] = lambda said: said,
    ) -> Any:
        """Send and return the answer as `read` makes it; raises Rejected, or EngineError where none comes.

        What may pass (no connection, 429, 5xx, an answer that `read` can't make sense of) is tried again after a while.
        """
        began, trouble = time.monotonic(), ""
        for attempt in range(self._tries):
            if attempt:
                # How long a server is waited for is for `timeout` and `tries` to say, not for the watchdog.
                pulse.beat()
            if self._over.wait(FIRST_WAIT * 2 ** (attempt - 1) if attempt else 0.0):
                raise EngineError(self._why)
            try:
                return self._tried(method, path, body, read)
            except _Passing as passing:
                trouble = str(passing)
        why = f"no answer from {self._client.base_url}{path} in {self._tries} tries; last: {trouble}"
        if self._answered < began:
            # Nor was anybody else answered: the others would wait as long, one after the other.
            self._end(why)
        raise EngineError(why)

    def close(self) -> None:
        """Hang up; what is open fails at once."""
        self._end(CLOSED)
        end = time.monotonic() + LEAVE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._client.close()

    def _tried(self, method: str, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], Any]) -> Any:
        try:
            answer = self._client.request(method, path, json=body, extensions={"trace": self._traced})
        except httpx.TransportError as error:
            raise _Passing(f"{type(error).__name__}: {error}") from error
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _Passing(f"{answer.status_code}: {answer.text[:300]}")
        try:
            said = read(_content(answer))
        except SelftrainError:
            self._answered = time.monotonic()
            raise
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            what = f"an answer that makes no sense ({type(error).__name__}: {error}): {answer.text[:200]!r}"
            raise _Passing(what) from error
        self._answered = time.monotonic()
        pulse.beat()
        return said

    def _traced(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep each new socket: shutting it down is the only way to end a request that waits for its answer."""
        if event.endswith(SOCKETS):
            new: socket.socket = info["return_value"].get_extra_info("socket")
            with self._guard:
                self._sockets.add(new)
                over = self._over.is_set()
            if over:
                _hang_up(new)

    def _serve(self) -> None:
        while (given := self._waiting.get()) is not None:
            future, call = given
            if not future.done():
                _settle(future, call)
            with self._guard:
                self._open.discard(future)

    def _end(self, why: str) -> None:
        """Fail all that is open, and hang up."""
        with self._guard:
            if not self._over.is_set():
                self._why = why
                self._over.set()
                for _ in self._threads:
                    self._waiting.put(None)
            futures, sockets = list(self._open), list(self._sockets)
        for future in futures:
            with contextlib.suppress(InvalidStateError):
                future.set_exception(EngineError(self._why))
        for each in sockets:
            _hang_up(each)


def _settle(future: "Future[Any]", call: Callable[[], Any]) -> None:
    """Make a call for whoever waits for it, if anybody still does."""
    try:
        result = call()
    except BaseException as error:  # it belongs to whoever waits, whatever it is
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)
    else:
        with contextlib.suppress(InvalidStateError):
            future.set_result(result)


def _hang_up(connection: socket.socket) -> None:
    # Not an SSL socket's own shutdown, which takes the session from under the thread that reads.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _content(answer: httpx.Response) -> Any:
    """Return an answer's JSON (its text where it is none), or raise what its status says."""
    told = f"{answer.request.url} says {answer.status_code}: {answer.text[:300]}"
    if answer.status_code in (401, 403):
        raise ConfigError(f"{told}; set sampler.api_key or OPENAI_API_KEY")
    if answer.status_code == 404:
        raise ConfigError(f"{told}; check sampler.url and sampler.model (adapters need a vLLM server set up for them)")
    if answer.is_error:
        raise Rejected(told)
    return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
