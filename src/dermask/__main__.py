"""`python -m dermask` is the `dermask` command."""

from dermask.cli.main import main

if __name__ == "__main__":
    main()
