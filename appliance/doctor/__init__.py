"""`locum doctor`: what a helper needs to see, in one archive, without secrets and without people.

`parts` names what is gathered; `redacting` takes out what must not leave the machine; `archive` writes the file.
"""
