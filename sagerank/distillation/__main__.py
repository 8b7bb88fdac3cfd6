"""`python -m sagerank.distillation`: the same as `sagerank distil`, and what a training job's container starts."""

import argparse
import sys

from sagerank_inference import quiet

from . import commands


def main() -> int:
    quiet.switch_off(quiet.OURS)
    parser = argparse.ArgumentParser(prog="python -m sagerank.distillation", description=commands.__doc__)
    commands.configure(parser)
    options = parser.parse_args()
    try:
        return commands.run(options)
    except (ValueError, OSError) as error:
        print(f"distillation: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
