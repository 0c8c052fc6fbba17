"""How results are shown: tables for people, lines of JSON for programs, names for the next command."""
