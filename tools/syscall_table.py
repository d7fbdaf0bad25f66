"""Writes reconciler/runtime/seccomp/syscalls.tsv: the number of each system call on each architecture we filter on.

    python3 tools/syscall_table.py

Sources: Debian's linux-libc-dev, through the C preprocessor (asm/unistd_64.h for x86_64; asm-generic/unistd.h, with
what arm64 asks of it, for aarch64); and for what is newer than those headers `NEWER`, which has the numbers of Linux
6.18 (arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl). From 424 up all architectures agree.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

TABLE = Path(__file__).resolve().parents[1] / "reconciler" / "runtime" / "seccomp" / "syscalls.tsv"
HEAD = "# name, number on x86_64, number on aarch64 (-: none). Written by tools/syscall_table.py, not to be edited.\n"

X86_64 = ["-include", "asm/unistd_64.h"]
AARCH64 = [
    *("-include", "asm-generic/unistd.h", "-D__BITS_PER_LONG=64"),
    # arch/arm64/include/uapi/asm/unistd.h
    *(f"-D__ARCH_WANT_{what}" for what in ("RENAMEAT", "NEW_STAT", "SET_GET_RLIMIT", "TIME32_SYSCALLS")),
    *(f"-D__ARCH_WANT_{what}" for what in ("SYS_CLONE3", "MEMFD_SECRET")),
]
NEWER = {
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
NEWER_X86_64 = {"uretprobe": 335, "uprobe": 336}
NO_CALLS = {"syscalls", "arch_specific_syscall"}  # counts and marks among the __NR_ macros


def numbers(options: list[str]) -> dict[str, int]:
    defined = subprocess.run(["cpp", "-dM", *options, "/dev/null"], check=True, capture_output=True, text=True).stdout
    macros = dict(re.findall(r"^#define (__NR\w*) (\w+)$", defined, re.MULTILINE))
    found = {}
    for macro, value in macros.items():
        if macro.startswith("__NR_") and macro[5:] not in NO_CALLS:
            while value in macros:  # __NR_fcntl is __NR3264_fcntl is 25
                value = macros[value]
            found[macro[5:]] = int(value)
    return found


def main() -> None:
    x86_64 = numbers(X86_64) | NEWER | NEWER_X86_64
    aarch64 = numbers(AARCH64) | NEWER
    lines = [f"{name}\t{x86_64.get(name, '-')}\t{aarch64.get(name, '-')}\n" for name in sorted(x86_64 | aarch64)]
    TABLE.write_text(HEAD + "".join(lines))


if __name__ == "__main__":
    main()
