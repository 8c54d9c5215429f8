"""Thin Faust agents, the calls to providers, and the command line."""
