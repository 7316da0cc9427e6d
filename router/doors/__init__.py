"""Doors: each file lets one API that people's tools speak reach the same router, through the hub form."""
