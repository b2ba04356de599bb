"""The command line: one file per command, no mathematics. Heavy imports happen inside commands."""
