"""`python -m formers` is the command `formers`."""

from formers.cli import main

main()
