"""ringbuf: the contract between broker and clients, in Python.

`dtypes`, `layout` and `segment` are the memory, `ring` is the client's slot allocator, `wire` the messages and their
framing, `errors` the codes. It imports nothing of ours, and no torch. The truth that it implements is spec/PROTOCOL.md.
"""
