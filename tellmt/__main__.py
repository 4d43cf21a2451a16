"""`python -m tellmt`: the command line."""

from tellmt.cli import entry

if __name__ == "__main__":
    entry()
