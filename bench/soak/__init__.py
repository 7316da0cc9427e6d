"""`python -m bench soak`: minutes of load on a router whose upstream fails in a new way every second.

`upstream` misbehaves, `clients` send, check every answer and sometimes leave, `verdict` judges what is left at the end.
"""
