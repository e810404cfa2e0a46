"""`python -m hs`: the same as the `hs` command."""

from hs.cli import main

if __name__ == "__main__":
    main(prog_name="hs")
