"""`python -m stint`: the command line."""

from stint.cli.app import app_main

app_main()
