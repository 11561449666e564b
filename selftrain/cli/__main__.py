"""`python -m selftrain.cli` is the command `selftrain`."""

from selftrain.cli import main

main()
