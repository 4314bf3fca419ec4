"""``python -m tryitnow``: the same as the ``tryitnow`` command."""

from tryitnow.cli.main import main

if __name__ == "__main__":
    main()
