#!/usr/bin/python3
"""Write a source of the queue with one mutation into the build folder: the driver must catch it.

    mutate.py SOURCE OUT OLD NEW

OLD must stand in SOURCE exactly once; else the mutation has lost its place and this is an error.
"""

import sys
from pathlib import Path


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    source, out, old, new = sys.argv[1:]
    text = Path(source).read_text()
    if text.count(old) != 1:
        sys.exit("mutate: %r stands %d times in %s, not once: the mutation needs a new place"
                 % (old, text.count(old), source))
    Path(out).write_text(text.replace(old, new))


if __name__ == "__main__":
    main()
