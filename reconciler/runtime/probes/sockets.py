"""A TCP socket in the network namespace of another process, for the event loop.

A socket belongs for life to the namespace that its thread was in when it was made (socket(2), network_namespaces(7)).
So a thread goes there, makes one, hands it over and ends: there is no way back for it, hence none that could fail.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading

from reconciler.runtime.kernel import syscalls


async def tcp_socket(family: int, of: int | None) -> socket.socket:
    """Non-blocking and not yet connected. of: pidfd of a process in the namespace; None: in our own. Raises OSError."""
    if of is None:
        return _make(family)
    loop = asyncio.get_running_loop()
    made: asyncio.Future[socket.socket] = loop.create_future()
    place = os.dup(of)  # whoever owns it may close it meanwhile, and its number would be somebody else's

    def settle(sock: socket.socket | None, error: OSError | None) -> None:
        if error is not None and not made.done():
            made.set_exception(error)
        elif sock is not None and made.done():  # nobody waits any more
            sock.close()
        elif sock is not None:
            made.set_result(sock)

    def work() -> None:
        sock, failure = None, None
        try:
            syscalls.setns(place, syscalls.CLONE_NEWNET)
            sock = _make(family)
        except OSError as error:
            failure = error
        finally:
            os.close(place)
        try:
            loop.call_soon_threadsafe(settle, sock, failure)
        except RuntimeError:  # the loop has ended
            if sock is not None:
                sock.close()

    threading.Thread(target=work, name="socket elsewhere", daemon=True).start()
    return await made


def _make(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
