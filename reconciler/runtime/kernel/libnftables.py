"""libnftables(3): what nft(8) reads, carried out in this process, as firewalld's does.

A transaction takes 1 ms, where the program takes 5 to start, and 4 to 20 more to end: a process that lets go of its
netlink socket waits for all that it removed. Nothing is listed by it, which loses some memory each time (1.0.6): what
there is `kernel.nftables` asks for.
"""

from __future__ import annotations

import ctypes
import functools
import os
import socket
from pathlib import Path

_NAME = "libnftables.so.1"


@functools.cache
def _library() -> ctypes.CDLL:
    """Raises OSError where it is not installed."""
    library, context, text = ctypes.CDLL(_NAME), ctypes.c_void_p, ctypes.c_char_p
    for name, returned, arguments in (
        ("nft_ctx_new", context, (ctypes.c_uint32,)),
        ("nft_ctx_free", None, (context,)),
        ("nft_ctx_buffer_output", ctypes.c_int, (context,)),
        ("nft_ctx_buffer_error", ctypes.c_int, (context,)),
        ("nft_ctx_get_error_buffer", text, (context,)),
        ("nft_run_cmd_from_buffer", ctypes.c_int, (context, text)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = returned, arguments
    return library


def lacking() -> str | None:
    """Why it cannot be had; None if it can."""
    try:
        _library()
    except (OSError, AttributeError) as error:
        return str(error)
    return None


class Nft:
    """In the network namespace of the thread that makes it. Not for two threads at once. Raises OSError without the
    library."""

    def __init__(self) -> None:
        self._does = _library()
        self._context = self._does.nft_ctx_new(0)
        if not self._context:
            raise OSError(f"{_NAME} gives no context")
        _keep_from_children()
        self._does.nft_ctx_buffer_output(self._context)
        self._does.nft_ctx_buffer_error(self._context)

    def carry_out(self, text: str) -> None:
        """In one transaction. Raises ValueError with what nft would say."""
        if self._does.nft_run_cmd_from_buffer(self._context, text.encode()) != 0:
            said = self._does.nft_ctx_get_error_buffer(self._context) or b""
            raise ValueError(" ".join(said.decode(errors="replace").split()))

    def close(self) -> None:
        """Waits until the kernel has done away with what was removed, some milliseconds."""
        if self._context:
            self._does.nft_ctx_free(self._context)
            self._context = None


def _keep_from_children() -> None:
    """Its socket is inherited by what is executed, until this is done; nobody asks for that of a netlink socket."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if os.get_inheritable(fd) and Path(f"/proc/self/fd/{fd}").readlink().name.startswith("socket:"):
                with socket.socket(fileno=os.dup(fd)) as found:
                    os.set_inheritable(fd, found.family != socket.AF_NETLINK)
        except OSError:  # closed since
            continue
