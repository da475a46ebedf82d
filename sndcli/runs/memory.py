"""Memory that is freed stays with the process.

By default glibc gives large blocks back to the system when they are freed, and the next forward pass on the CPU maps,
faults in and clears the same activations again. On a virtual machine that was a third of the time of a network on
224 x 224 images, and much of what an attack does between passes.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT = 2**31 - 1  # bytes that may lie free at the end of the heap
MAPPED = 2**30  # blocks from this size on are still mapped and given back one by one


def keep_freed_memory() -> bool:
    """Asks the C library to keep freed memory; whether it could be asked.

    Only glibc knows this; where a user has set a ``MALLOC_…`` variable, their choice stands.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT) and mallopt(MMAP_THRESHOLD, MAPPED))
