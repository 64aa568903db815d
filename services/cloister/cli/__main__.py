"""`python -m cloister.cli`, and the entry point of the `cloister` command."""

from cloister.cli.app import main

if __name__ == "__main__":
    main()
