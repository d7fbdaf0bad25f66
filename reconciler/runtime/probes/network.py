"""Checks over the container's own network, on its loopback: 127.0.0.1, and where nobody listens there, ::1.

tcp    a connection is accepted
http   a GET answers with a status from 200 to 399; redirects are not followed, certificates not judged (as Mesos's
       checks, which are curl -k); a little of the body is read, or a server that has more to say would complain
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl

from reconciler.runtime.containerizer import Finding
from reconciler.runtime.kernel import proc
from reconciler.runtime.probes.sockets import tcp_socket
from reconciler.spec.policies import HealthCheck, HttpProbe, TcpProbe

_ADDRESSES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_LINE = 4096
_BODY = 64 * 1024
_BODY_SECONDS = 0.5


async def probe(check: HealthCheck, inode: int | None, pidfd: int, seconds: float | None) -> Finding:
    """One by http or tcp. inode: of the container's network namespace, None where it has none of its own; pidfd: of a
    process in it; seconds: None for no limit. Raises OSError for a socket that could not be made."""
    of = None if inode in (None, proc.namespaces("self").get("network")) else pidfd
    try:
        async with asyncio.timeout(seconds):
            if check.http is not None:
                return await http(check.http, of)
            assert check.tcp is not None
            return await tcp(check.tcp, of)
    except TimeoutError:
        return Finding(False, f"timed out after {seconds:g} s")


async def tcp(probe: TcpProbe, of: int | None) -> Finding:
    """of: see `tcp_socket`. Raises OSError for a socket that could not be made."""
    sock = await _connected(probe.port, of)
    if isinstance(sock, Finding):
        return sock
    sock.close()
    return Finding(True, "connected")


async def http(probe: HttpProbe, of: int | None) -> Finding:
    sock = await _connected(probe.port, of)
    if isinstance(sock, Finding):
        return sock
    writer = None
    try:
        context = _unjudging() if probe.scheme == "https" else None
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=context, server_hostname="localhost" if context else None, limit=_LINE
        )
        host = f"localhost:{probe.port}"
        writer.write(
            f"GET {probe.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: reconciler\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        finding = _judged(await reader.readline())
        await _listen_to_the_rest(reader)
        return finding
    except ValueError:
        return Finding(False, "the answer is not HTTP: its first line does not end")
    except ssl.SSLError as error:
        return Finding(False, f"TLS: {error.reason or error}")
    except OSError as error:
        return Finding(False, _in_words(error))
    finally:
        if writer is not None:
            writer.transport.abort()
        sock.close()


def _judged(line: bytes) -> Finding:
    """Of a status line (RFC 9112, section 4)."""
    if not line:
        return Finding(False, "the connection was closed without an answer")
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        return Finding(False, f"the answer is not HTTP: {line[:60].decode(errors='replace').strip()!r}")
    return Finding(200 <= int(words[1]) < 400, str(int(words[1])))


async def _listen_to_the_rest(reader: asyncio.StreamReader) -> None:
    left = _BODY
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_BODY_SECONDS):
            while left > 0 and (data := await reader.read(_LINE)):
                left -= len(data)


async def _connected(port: int, of: int | None) -> socket.socket | Finding:
    """A finding: what keeps it from being connected, at the first address."""
    loop, refused = asyncio.get_running_loop(), ""
    for family, address in _ADDRESSES:
        try:
            sock = await tcp_socket(family, of)
        except OSError:
            if family != socket.AF_INET:
                break  # a host without IPv6
            raise
        try:
            await loop.sock_connect(sock, (address, port))
            # a port that nobody listens on may be chosen for our own end, and then TCP connects to itself
            if sock.getsockname() != sock.getpeername():
                return sock
            refused = refused or "connection refused"
        except OSError as error:
            refused = refused or _in_words(error)
        except BaseException:
            sock.close()
            raise
        sock.close()
    return Finding(False, refused)


def _in_words(error: OSError) -> str:
    text = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


@functools.cache
def _unjudging() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
