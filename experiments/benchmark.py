"""Time a part beside its limit, measured in the same run: benchmark.py NAME.

Examples:
  python experiments/benchmark.py regions
  python experiments/benchmark.py copy-paste --device cuda
  python experiments/benchmark.py step --preset paper --device cuda
"""

import sys

from cpcdr.commands.benchmark import benchmark
from cpcdr.commands.config import BenchmarkConfig
from cpcdr.runtime.cli import main

if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv.insert(1, "--name")
    main(BenchmarkConfig, benchmark, __doc__, word="BENCH")
