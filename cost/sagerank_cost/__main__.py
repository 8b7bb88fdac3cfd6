"""`python -m sagerank_cost`: the same as `sagerank cost`, for those who come by the folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from . import CostError, commands


class Parser(argparse.ArgumentParser):
    """argparse's parser with whole names of options only, and errors of one line."""

    def __init__(self, **named: Any) -> None:
        named.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**named, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"cost: {message} (see `{self.prog} --help`)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    commands.print_any_text()
    parser = Parser(prog="python -m sagerank_cost", description=__doc__)
    commands.configure(parser)
    options = parser.parse_args(arguments)
    try:
        return commands.run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has seen enough; what Python still holds must not be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        print(f"cost: this command needs {error.name}: pip install 'sagerank[cost]'", file=sys.stderr)
    except (CostError, OSError) as error:
        print(f"cost: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
