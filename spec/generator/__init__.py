"""What `spec/make_vectors.py` is made of.

Everything here is derived from the tables in `spec/` with the PyPI package `msgpack` and plain arithmetic. Nothing of
the broker or of a client is imported: the vectors are a second opinion.
"""
