"""How fast a link may send: the token bucket filter tc-tbf(8), by rtnetlink.

Layouts: include/uapi/linux/{rtnetlink,pkt_sched}.h; what they mean: net/sched/sch_tbf.c.
"""

from __future__ import annotations

import errno
import struct

from reconciler.runtime.kernel.netlink import Message, attribute, attributes
from reconciler.runtime.kernel.rtnetlink import Rtnetlink

_NEWQDISC, _DELQDISC, _GETQDISC = 36, 37, 38
_REPLACE, _CREATE = 0x100, 0x400
_ROOT = 0xFFFFFFFF
_TCA_KIND, _TCA_OPTIONS = 1, 2
_PARMS, _RATE64, _BURST = 1, 4, 6
_ETHERNET = 1  # TC_LINKLAYER_ETHERNET: no table of rates is needed
_NESTED = 0x8000

_BURST_SECONDS, _SMALLEST_BURST = 0.02, 16 << 10  # more than any MTU; larger segments are cut (tbf_segment)
_QUEUE_SECONDS, _SMALLEST_QUEUE = 0.05, 32 << 10  # what waits longer is dropped
_LARGEST = 2**32 - 1


def limit(link: Rtnetlink, index: int, rate: int | None) -> None:
    """Of what the link sends, in bytes per second; None: no limit. Changed in place. Raises OSError, ENOENT when the
    kernel has no such filter."""
    if rate is not None:
        link.carry_out(_bucket(index, rate))
        return
    try:
        link.carry_out(("no limit of its rate", _DELQDISC, 0, _head(index)))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):  # there was none
            raise


def rate(link: Rtnetlink, index: int) -> int | None:
    """The limit in force, as `limit` takes it; None for none, and for one that is no token bucket."""
    for body in link.dump(_GETQDISC, _head(index)):
        of, parent = struct.unpack_from("=4xi4xI", body)
        told = attributes(body[20:])
        if of != index or parent != _ROOT or told.get(_TCA_KIND) != b"tbf\0":
            continue
        options = attributes(told.get(_TCA_OPTIONS, b""))
        if _RATE64 in options:
            return int(struct.unpack("=Q", options[_RATE64])[0])
        return int(struct.unpack_from("=8xI", options[_PARMS])[0])
    return None


def _bucket(index: int, rate: int) -> Message:
    burst = min(_LARGEST, max(_SMALLEST_BURST, int(rate * _BURST_SECONDS)))
    queue = min(_LARGEST, burst + max(_SMALLEST_QUEUE, int(rate * _QUEUE_SECONDS)))
    # struct tc_tbf_qopt: rate, peak rate, limit, and what _BURST stands for
    speed = struct.pack("=BBHhHI", 0, _ETHERNET, 0, 0, 0, min(rate, _LARGEST))
    options = attribute(_PARMS, speed + bytes(12) + struct.pack("=III", queue, 0, 0))
    options += attribute(_BURST, struct.pack("=I", burst))
    if rate > _LARGEST:
        options += attribute(_RATE64, struct.pack("=Q", rate))
    payload = _head(index) + attribute(_TCA_KIND, b"tbf\0") + attribute(_TCA_OPTIONS | _NESTED, options)
    return "limit of its rate", _NEWQDISC, _CREATE | _REPLACE, payload


def _head(index: int) -> bytes:
    """struct tcmsg."""
    return struct.pack("=BxxxiIII", 0, index, 0, _ROOT, 0)
