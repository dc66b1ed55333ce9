"""Memory settings of the C library, for commands that process many batches."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory for the next batch instead of returning it to the system page by page.

    A network on a CPU frees and allocates megabytes in every layer. By default it spends 10 to 25 % of its time on new
    pages. Only a command may call this function, because it changes the whole process.

    Returns:
        True if the C library supports these settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    told = [mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)]
    return all(told)
