"""The samples: Kestrun's tutorials in Python, one script each.

``kestrun samples`` lists them and ``kestrun sample 19.1`` runs one. Their file names begin with a number, so
they are run by path and never imported.
"""
