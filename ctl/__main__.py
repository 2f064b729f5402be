"""`python -m ctl`: the same as the installed `cairn`."""

from ctl.main import main

if __name__ == "__main__":
    main()
