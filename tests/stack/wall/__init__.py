"""A wall around processes: the kernel asks us about each address that they want to speak to (seccomp_unotify(2)).

`wall.Wall` judges and records, `walled` is the program that goes behind it and then becomes the real one. Whatever the
process loads, and whatever it starts, is behind it, too. Linux on amd64 and arm64 only.
"""
