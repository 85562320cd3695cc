"""The wire: `framing` cuts a byte stream into payloads, `messages` turns payloads into typed messages and back. No
I/O.
"""
