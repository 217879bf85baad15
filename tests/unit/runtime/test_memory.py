"""What is freed goes back to the system."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource
import sys
from countersign.runtime.memory import return_large_blocks

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "set":
    assert return_large_blocks()
small, size = [], 20_000_000
first = b"x" * size
del first  # what raises the size from which blocks are mapped
before = resident()
for _ in range(5):
    large = b"x" * size
    small.append(b"x" * 100_000)  # behind it, if it lies in the heap
    size += 1_000_000  # too large for the gap that the last one left
    del large
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or sys.platform != "linux", reason="another C library")
def test_a_large_block_goes_back_to_the_system_though_a_small_one_lies_behind_it() -> None:
    def kept(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert kept("set") < 10_000_000 < kept("unset")
