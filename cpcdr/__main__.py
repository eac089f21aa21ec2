"""``python -m cpcdr``, the same as ``cpcdr``."""

from cpcdr.commands import main

if __name__ == "__main__":
    main()
