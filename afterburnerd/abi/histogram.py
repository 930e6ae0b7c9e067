"""Log-linear histograms, read, and written where Python is the writer: the arithmetic of hist.h on words that were copied out of shared memory.

    value   0..2^sub_bits - 1    bucket = value                       (exact)
    above                        e = bit length - sub_bits - 1;  bucket = (e << sub_bits) + (value >> e)

so every power of two has 2^sub_bits buckets, and 2^k for k >= sub_bits is always the lower edge of one: a cumulative
histogram over powers of two loses nothing but resolution. The count is taken from the buckets, not from the count
word: a writer between its two stores would otherwise make them disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from .description import Geometry


def index_of(geometry: Geometry, value: int) -> int:
    """The bucket that a value falls into."""
    bits = geometry.sub_bits
    if value < 1 << bits:
        return value
    if value >> geometry.max_bits:
        return geometry.buckets - 1
    e = value.bit_length() - 1 - bits
    return (e << bits) + (value >> e)


def record(geometry: Geometry, words: memoryview, value: int) -> None:
    """Adds a value to a histogram of ours in shared memory; `words` (format 'Q') begin with its count. Single writer."""
    bucket = 4 + index_of(geometry, value)
    words[bucket] += 1
    words[1] += value
    words[2] = min(words[2], value) if words[0] else value
    words[3] = max(words[3], value)
    words[0] += 1


class Histogram(msgspec.Struct, frozen=True):
    """What was recorded until a moment, or between two (`after - before`). Values have the unit of the statistic (ns)."""

    geometry: Geometry
    sum: int
    min: int  # smallest value; of a difference: lower edge of its lowest bucket
    max: int
    buckets: tuple[int, ...]

    @classmethod
    def from_words(cls, geometry: Geometry, words: Sequence[int]) -> Histogram:
        """`words` as they lie in the segment: count, sum, min, max, buckets."""
        buckets = tuple(words[4 : 4 + geometry.buckets])
        return cls(geometry, words[1], words[2] if any(buckets) else 0, words[3], buckets)

    @property
    def count(self) -> int:
        return sum(self.buckets)

    @property
    def mean(self) -> float:
        """Average, 0 while empty."""
        count = self.count
        return self.sum / count if count else 0.0

    def edge(self, index: int) -> int:
        """Smallest value that falls into bucket `index`."""
        bits = self.geometry.sub_bits
        if index < 2 << bits:
            return index
        e = (index >> bits) - 1
        return ((1 << bits) + (index & ((1 << bits) - 1))) << e

    def index(self, value: int) -> int:
        return index_of(self.geometry, value)

    def quantile(self, q: float) -> int:
        """Smallest bucket edge at or below which a share `q` (0..1) of the values lies; at most 3.2 % above it."""
        want, seen = int(q * self.count), 0
        for i, n in enumerate(self.buckets):
            seen += n
            if seen > want:
                # the last bucket also holds what is beyond its edge
                return self.max if i == self.geometry.buckets - 1 else min(self.edge(i + 1) - 1, self.max)
        return self.max if seen else 0

    def below(self, values: Iterable[int]) -> list[int]:
        """For each value, which must be a bucket edge, how many recorded values are smaller."""
        cumulated = [0, *accumulate(self.buckets)]
        return [cumulated[self.index(value)] for value in values]

    def occupied(self) -> list[tuple[int, int, int]]:
        """(lower edge, upper edge, values) of the buckets that are not empty."""
        return [(self.edge(i), self.edge(i + 1), n) for i, n in enumerate(self.buckets) if n]

    def __sub__(self, before: Histogram) -> Histogram:
        """What was recorded since `before`. A histogram that was begun anew in between counts from its beginning."""
        if before.geometry != self.geometry or any(a < b for a, b in zip(self.buckets, before.buckets, strict=True)):
            return self
        buckets = tuple(a - b for a, b in zip(self.buckets, before.buckets, strict=True))
        used = [i for i, n in enumerate(buckets) if n]
        if not used:
            return Histogram(self.geometry, 0, 0, 0, buckets)
        top = self.max if used[-1] == self.geometry.buckets - 1 else min(self.edge(used[-1] + 1) - 1, self.max)
        return Histogram(self.geometry, max(self.sum - before.sum, 0), max(self.edge(used[0]), self.min), top, buckets)

    def __add__(self, other: Histogram) -> Histogram:
        """Both together, e.g. two workers. They must have the same geometry."""
        if other.geometry != self.geometry:
            raise ValueError(f"histograms of different geometry: {self.geometry} and {other.geometry}")
        low = min((h.min for h in (self, other) if h.count), default=0)
        buckets = tuple(a + b for a, b in zip(self.buckets, other.buckets, strict=True))
        return Histogram(self.geometry, self.sum + other.sum, low, max(self.max, other.max), buckets)
