"""Large blocks of memory go back to the system as soon as they are free.

glibc maps blocks from a size on, and returns those when they are freed. It raises that size, up to 32 MiB, to the
largest that was freed (mallopt(3), M_MMAP_THRESHOLD): after the first attestation of 20 MB the next ones lie in the
heap, where a small block behind one keeps all of it. A size that was set stays.
"""

from typing import Final

LARGE_BYTES: Final = 1024 * 1024
_M_MMAP_THRESHOLD: Final = -3  # malloc.h


def return_large_blocks() -> bool:
    """For this process, from now on. Returns False where the C library is another than glibc, and does nothing."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
