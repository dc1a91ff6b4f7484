"""VLAN tags in line: two small programs of eBPF on the bridge (bpf(2), tc-bpf(8)), which take a tag off and put it on.

nftables cannot do either. A frame that the rules take up to the bridge comes with the tag that the copier's, or the
server's, switch gave it; the first program takes it off, and the stack reads what is inside. The rules know in which
VLAN each copier is, as they know its MAC address; to what leaves the bridge they write the tag as the frame's priority
(`rules.py`), and the second program makes it one. Neither keeps anything: any number of VLANs costs nothing here.

The kernel keeps a program as long as a filter of the bridge has it. Instructions: RFC 9669; the fields of the context
and the helpers' numbers: linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

Instruction = tuple[int, int, int, int, int]
"""Code, register to, register from, offset, operand."""

DOT1Q = 0x8100

_CALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""Of bpf(2), by machine; all of them little-endian. Programs of 32 bits on such a kernel have other numbers."""
_LOAD, _SCHED_CLS = 5, 3
_INSTRUCTION = struct.Struct("<BBhi")
_ATTRIBUTES = struct.Struct("=IIQQIIQII16s")

_TYPE, _PRIORITY = 4, 32
"""Of `struct __sk_buff`: how the frame was addressed, and its priority."""
_TO_THIS_MACHINE = 0
_VLAN_PUSH, _VLAN_POP = 18, 19
_SWAPPED = int.from_bytes(struct.pack(">H", DOT1Q), "little")
_GO_ON, _DROP = -1, 2

_COPY, _SET = 0xBF, 0xB7
_READ, _WRITE = 0x61, 0x63
_AND, _RIGHT, _TO_BIG_ENDIAN = 0x57, 0x77, 0xDC
_IF_EQUAL, _IF_NOT, _CALL, _END = 0x15, 0x55, 0x85, 0x95


def _i(code: int, to: int = 0, source: int = 0, offset: int = 0, operand: int = 0) -> Instruction:
    return code, to, source, offset, operand


TAKE_OFF: Sequence[Instruction] = (
    _i(_READ, 0, 1, _TYPE),
    _i(_IF_NOT, 0, 0, 1, _TO_THIS_MACHINE),
    _i(_CALL, operand=_VLAN_POP),
    _i(_SET, 0, operand=_GO_ON),
    _i(_END),
)
"""Of what is for this machine: the rules have made it so. A frame without a tag stays as it is."""

PUT_ON: Sequence[Instruction] = (
    _i(_READ, 3, 1, _PRIORITY),
    # The rules write EtherType and VLAN in the order of the wire or of the machine, as the version of nft has it.
    _i(_COPY, 4, 3),
    _i(_RIGHT, 4, operand=16),
    _i(_IF_EQUAL, 4, 0, 5, DOT1Q),
    _i(_COPY, 5, 3),
    _i(_AND, 5, operand=0xFFFF),
    _i(_IF_NOT, 5, 0, 10, _SWAPPED),
    _i(_COPY, 3, 4),
    _i(_TO_BIG_ENDIAN, 3, operand=16),
    _i(_AND, 3, operand=0x0FFF),
    _i(_SET, 4, operand=0),
    _i(_WRITE, 1, 4, _PRIORITY),
    _i(_SET, 2, operand=_SWAPPED),
    _i(_CALL, operand=_VLAN_PUSH),
    _i(_IF_EQUAL, 0, 0, 2, 0),
    _i(_SET, 0, operand=_DROP),
    _i(_END),
    _i(_SET, 0, operand=_GO_ON),
    _i(_END),
)
"""Of what has a tag as its priority. If it cannot be put on, the frame is dropped: it is for another network."""


PROGRAMS: tuple[tuple[str, Sequence[Instruction]], ...] = (("locum_take_off", TAKE_OFF), ("locum_put_on", PUT_ON))
"""With their names; the first looks at what comes in, the second at what goes out."""

_PARTS = {"sch_ingress": "clsact_init", "cls_bpf": "cls_bpf_classify"}
"""Parts of the kernel by which programs look at frames, each with a name in it."""
_NAMES, _MODULES = Path("/proc/kallsyms"), Path("/lib/modules")


@contextmanager
def loaded(name: str, instructions: Sequence[Instruction]) -> Iterator[int]:
    """A program in the kernel, as a descriptor. Raises OSError with the kernel's reason."""
    descriptor = _load(name, instructions)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def refusal() -> str:
    """Why this machine, or this process, can do nothing of it; "" if it can. The programs are loaded and let go."""
    try:
        for name, instructions in PROGRAMS:
            with loaded(name, instructions):
                pass
        lacking = [each for each in _PARTS if not _has(each)]
    except OSError as error:
        return f"eBPF: {error.strerror}"
    return f"this kernel has no {' and no '.join(lacking)}" if lacking else ""


def _has(part: str) -> bool:
    """Whether the kernel has a part, built in or as a module that it may load."""
    for name in ("modules.builtin", "modules.dep"):
        with suppress(OSError):
            if f"/{part}.ko" in (_MODULES / platform.release() / name).read_text():
                return True
    return re.search(rf" {_PARTS[part]}\s", _NAMES.read_text()) is not None


def _load(name: str, instructions: Sequence[Instruction]) -> int:
    number = _CALL_NUMBERS.get(platform.machine())
    if number is None or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"not made for {8 * struct.calcsize('P')} bits on {platform.machine()}")
    packed = b"".join(
        _INSTRUCTION.pack(code, source << 4 | to, offset, operand) for code, to, source, offset, operand in instructions
    )
    program, licence = ctypes.create_string_buffer(packed, len(packed)), ctypes.create_string_buffer(b"GPL")
    attributes = _ATTRIBUTES.pack(
        _SCHED_CLS,
        len(instructions),
        ctypes.addressof(program),
        ctypes.addressof(licence),
        *(0, 0, 0, 0, 0),
        name.encode(),
    )
    libc = ctypes.CDLL(None, use_errno=True)
    given = ctypes.create_string_buffer(attributes, len(attributes))
    descriptor = int(libc.syscall(number, _LOAD, given, len(attributes)))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor
