"""What ships beside the code: `methods`, `splits` and `results/published`, which in a clone lie at its top.

A built wheel has them in this folder instead (`package_dir` in setup.cfg), and not this file.
"""

from pathlib import Path

__path__ = [*__path__, str(Path(__file__).resolve().parents[2])]
