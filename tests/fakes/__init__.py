"""Providers to test against: real sockets, scripted answers, recorded requests."""
