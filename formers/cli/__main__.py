"""`python -m formers.cli`."""

from formers.cli import main

main()
