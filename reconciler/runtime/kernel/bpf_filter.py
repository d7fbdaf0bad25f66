"""Instructions of classic BPF, as far as seccomp takes them, and their encoding (include/uapi/linux/filter.h).

A program is a tuple of instructions; conditional jumps reach at most 255 instructions further, and only forward.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER = 0x25
JUMP_GREATER_EQUAL = 0x35
RETURN = 0x06

FURTHEST = 255
LONGEST = 4096  # BPF_MAXINSNS
SIZE = 8


class Instruction(NamedTuple):
    code: int
    on_true: int = 0
    on_false: int = 0
    value: int = 0


Program = tuple[Instruction, ...]


def load(offset: int) -> Instruction:
    return Instruction(LOAD, value=offset)


def keep(mask: int) -> Instruction:
    return Instruction(AND, value=mask)


def give(value: int) -> Instruction:
    """End the program."""
    return Instruction(RETURN, value=value)


def branch(code: int, value: int, then: Program, otherwise: Program) -> Program:
    """Both must end in a `give`."""
    if len(then) <= FURTHEST:
        return (Instruction(code, 0, len(then), value), *then, *otherwise)
    far = Instruction(JUMP, value=len(then))
    return (Instruction(code, 1, 0, value), far, *then, *otherwise)


def encode(program: Sequence[Instruction]) -> bytes:
    if not 0 < len(program) <= LONGEST:
        raise ValueError(f"a filter of {len(program)} instructions; the kernel takes 1 to {LONGEST}")
    return b"".join(struct.pack("=HBBI", *each) for each in program)


def decode(data: bytes) -> Program:
    return tuple(Instruction(*each) for each in struct.iter_unpack("=HBBI", data))
