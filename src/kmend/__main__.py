"""``python -m kmend`` is ``kmend``."""

from kmend.cli.main import main

if __name__ == "__main__":
    main()
