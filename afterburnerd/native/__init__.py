"""The C helper: a plain C library without any Python inside, and one binding file.

One concept a file (see the essays at the head of each header). Imports nothing else of ours.
"""

from . import _native as lib

__all__ = ["lib"]
