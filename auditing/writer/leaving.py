"""How a process ends, or becomes two: what waits is written or spooled first, and a child begins with nothing."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any, Protocol, TypeAlias
from weakref import WeakSet

logger = logging.getLogger(__name__)


class Leaving(Protocol):
    def begin(self) -> None: ...
    def close(self) -> None: ...


_beginning: WeakSet[Any] = WeakSet()


def begin_after_fork(writer: Leaving) -> None:
    """Have a writer begin anew in the child of a fork."""
    _beginning.add(writer)


def _begin_all() -> None:
    for writer in list(_beginning):
        writer.begin()


os.register_at_fork(after_in_child=_begin_all)


def close_at_exit(writer: Leaving) -> None:
    """Close the writer when this process ends: by itself, as a child of multiprocessing, or by SIGTERM.

    Signals are left to who handles them already (gunicorn's end in an ordinary exit), and can be heeded only where this is
    called in the main thread.
    """
    atexit.unregister(writer.close)
    atexit.register(writer.close)
    Finalize(None, writer.close, exitpriority=100)  # multiprocessing's children end without atexit
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, frame: _terminate(writer, number, frame))


def _terminate(writer: Leaving, number: int, frame: FrameType | None) -> None:
    """Close, then end by the same signal. In a thread of its own: the main one may be stopped in the middle of a row. A second
    signal ends the process at once."""
    signal.signal(number, signal.SIG_DFL)
    try:
        threading.Thread(target=_close_and_end, args=(writer, number), name="cp-writer-end").start()
    except RuntimeError:  # the process ends already
        _close_and_end(writer, number)


def _close_and_end(writer: Leaving, number: int) -> None:
    try:
        writer.close()
    except Exception:
        logger.exception("the writer of the logs did not end in order")
    os.kill(os.getpid(), number)


_Scope: TypeAlias = dict[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
_Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]
_Application: TypeAlias = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class Lifespan:
    """An ASGI application that closes the writer when its server ends: such servers end by a signal, past atexit."""

    def __init__(self, application: _Application, writer: Leaving) -> None:
        self._application, self._writer = application, writer

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "lifespan":
            await self._application(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._writer.close()  # nothing else runs any more
                await send({"type": "lifespan.shutdown.complete"})
                return
