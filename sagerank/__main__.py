"""`python -m sagerank`: the same as the command `sagerank`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
