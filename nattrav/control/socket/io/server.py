"""Serves verbs on a Unix stream socket: peer credentials checked, slow and silent clients cut off."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import trio

from nattrav.control.socket.messages import End, Failure, Item, Reply, Request, Result, VerbError, Verbs
from nattrav.control.socket.server import Connection

CONNECTIONS = 64
"""Connections served at once; further ones are told `busy` and closed."""

SEND_TIMEOUT = 10.0
"""Seconds a client may take to read what was sent before it is cut off."""

OnFault = Callable[[str, Exception], None]
"""Told the verb and the exception of a handler that broke."""


class SocketTaken(Exception):
    """Another live process answers on this socket path."""


async def serve_verbs(
    path: Path,
    verbs: Verbs,
    *,
    on_fault: OnFault,
    mode: int = 0o660,
    group: int | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `verbs` on `path` until cancelled; the socket file is removed at the end.

    A stale socket file is replaced. SocketTaken when a live process listens there, OSError when the path cannot
    be used.
    """
    listener = _open(path, mode, group)
    try:
        limit = trio.CapacityLimiter(CONNECTIONS)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                stream = await _accept(listener)
                nursery.start_soon(_guarded, stream, verbs, on_fault, limit, group)
    finally:
        _remove(path, listener)
        listener.close()


def _open(path: Path, mode: int, group: int | None) -> trio.socket.SocketType:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            probe.settimeout(1)
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise SocketTaken(f"{path} is held by another process") from None
            path.unlink(missing_ok=True)
        else:
            raise SocketTaken(f"another process answers on {path}")
        finally:
            probe.close()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        previous = os.umask(0o777 & ~mode)
        try:
            sock.bind(str(path))
        finally:
            os.umask(previous)
        if group is not None:
            os.chown(path, -1, group)
        sock.listen(CONNECTIONS)
    except BaseException:
        sock.close()
        raise
    return trio.socket.from_stdlib_socket(sock)


def _remove(path: Path, listener: trio.socket.SocketType) -> None:
    # A successor may have replaced the file already; its socket must stay.
    try:
        ours = listener.getsockname() == str(path)
        if ours and path.exists():
            path.unlink()
    except OSError:
        return


async def _accept(listener: trio.socket.SocketType) -> trio.SocketStream:
    while True:
        try:
            connection, _ = await listener.accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED):
                raise
            await trio.sleep(0.1)
        else:
            return trio.SocketStream(connection)


async def _guarded(
    stream: trio.SocketStream, verbs: Verbs, on_fault: OnFault, limit: trio.CapacityLimiter, group: int | None
) -> None:
    async with stream:
        try:
            if not _allowed(stream, group):
                await _send(stream, Failure(0, "refused", "only root and this daemon's user and group may ask"))
                return
            try:
                limit.acquire_nowait()
            except trio.WouldBlock:
                await _send(stream, Failure(0, "busy", f"{CONNECTIONS} clients are connected already"))
                return
            try:
                await _converse(stream, verbs, on_fault)
            finally:
                limit.release()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return


def _allowed(stream: trio.SocketStream, group: int | None) -> bool:
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, gid = struct.unpack("3i", raw)
    if uid in (0, os.geteuid()):
        return True
    if group is None:
        return False
    try:
        name = _user_name(uid)
    except KeyError:
        return bool(gid == group)
    return group in os.getgrouplist(name, gid)


def _user_name(uid: int) -> str:
    import pwd

    return pwd.getpwuid(uid).pw_name


async def _converse(stream: trio.SocketStream, verbs: Verbs, on_fault: OnFault) -> None:
    connection = Connection()
    async for data in stream:
        for request in connection.receive(bytes(data)):
            if isinstance(request, Failure):
                await _send(stream, request)
            else:
                await _answer(stream, request, verbs, on_fault)


async def _answer(stream: trio.SocketStream, request: Request, verbs: Verbs, on_fault: OnFault) -> None:
    handler = verbs.get(request.verb)
    if handler is None:
        await _send(stream, Failure(request.id, "not_found", f"no verb {request.verb!r}; known: {', '.join(verbs)}"))
        return
    try:
        value = await handler(request.args)
        if isinstance(value, AsyncIterator):
            await _stream(stream, request, value)
            return
        line = Result(request.id, value).encode()
    except VerbError as error:
        await _send(stream, Failure(request.id, error.code, error.message))
    except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
        raise
    except Exception as error:
        # One broken verb must not end the service: it is told to the client and to the log, with its traceback.
        on_fault(request.verb, error)
        await _send(stream, Failure(request.id, "internal", f"{request.verb} failed: {type(error).__name__}: {error}"))
    else:
        await _write(stream, line)


async def _stream(stream: trio.SocketStream, request: Request, items: AsyncIterator[Any]) -> None:
    """Send items until they end or the client hangs up. Raises what the items or the stream raise, ungrouped."""
    fault: Exception | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            # Only peeks: what the client says next belongs to its next request.
            await trio.lowlevel.wait_readable(stream.socket)
            try:
                gone = not await stream.socket.recv(1, socket.MSG_PEEK)
            except OSError:
                gone = True
            if gone:
                nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        try:
            async for item in items:
                await _write(stream, Item(request.id, item).encode())
        except Exception as error:
            fault = error
        finally:
            nursery.cancel_scope.cancel()
            close = getattr(items, "aclose", None)
            if close is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await close()
    if fault is not None:
        raise fault
    await _write(stream, End(request.id).encode())


async def _send(stream: trio.SocketStream, reply: Reply) -> None:
    await _write(stream, reply.encode())


async def _write(stream: trio.SocketStream, line: bytes) -> None:
    with trio.fail_after(SEND_TIMEOUT):
        await stream.send_all(line)
