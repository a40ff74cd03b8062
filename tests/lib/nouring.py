"""Run a program on a kernel that refuses io_uring: io_uring_setup answers EPERM, nothing else is
changed.    python3 nouring.py PROGRAM ARGUMENT..."""

import ctypes
import os
import struct
import sys

LOAD_SYSCALL = struct.pack("HBBI", 0x20, 0, 0, 0)           # BPF_LD | BPF_W | BPF_ABS, nr
IS_SETUP = struct.pack("HBBI", 0x15, 0, 1, 425)             # BPF_JMP | BPF_JEQ, io_uring_setup
REFUSE = struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | 1)    # SECCOMP_RET_ERRNO | EPERM
ALLOW = struct.pack("HBBI", 0x06, 0, 0, 0x7fff0000)


def refuse_io_uring():
    code = ctypes.create_string_buffer(LOAD_SYSCALL + IS_SETUP + REFUSE + ALLOW)

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(4, ctypes.addressof(code))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    refuse_io_uring()
    os.execv(sys.argv[1], sys.argv[1:])
