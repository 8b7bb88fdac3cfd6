"""`python -m sagerank_cost`: the same as `sagerank cost`, for those who come by the folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import CostError, commands


def main(arguments: Sequence[str] | None = None) -> int:
    commands.print_any_text()
    parser = argparse.ArgumentParser(prog="python -m sagerank_cost", description=__doc__)
    commands.configure(parser)
    options = parser.parse_args(arguments)
    try:
        return commands.run(options)
    except ModuleNotFoundError as error:
        print(f"cost: this command needs {error.name}: pip install 'sagerank[cost]'", file=sys.stderr)
    except (CostError, OSError) as error:
        print(f"cost: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
