"""The data plane: a pinned process that sets itself up, gives up its privileges, and lives in the C loop.

It may import `abi` and `native`, and nothing else of ours: what is not loaded cannot be late, large or wrong.
"""
