"""`python -m selftrain.cli` is the command `selftrain`."""

from selftrain.cli import main

if __name__ == "__main__":
    main()
