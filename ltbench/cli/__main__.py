"""`python -m ltbench.cli`, the same as `ltbench`."""

from ltbench.cli.app import main

main()
