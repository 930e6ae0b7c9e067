"""Writes the committed corpora of the fuzz targets: `python -m tests.fuzz.make_corpus`.

A corpus is where a fuzzer starts; with one example of every shape and of every fault it need not guess its way past the
first counts. The files come from the lab's makers and a fixed seed, so that they can be made again and reviewed.
"""

from __future__ import annotations

from pathlib import Path

from afterburnerd.lab import broken
from afterburnerd.lab.transactions import SHAPES, Maker

CORPUS = Path(__file__).parent / "corpus"


def solana_tx() -> dict[str, bytes]:
    maker = Maker(20_260_914)
    files = {f"shape-{shape}": maker.make(shape) for shape in SHAPES}
    # Small bases: a fuzzer works fastest on short inputs.
    files |= {f"malformed-{reason}": broken.malformed(maker, reason) for reason in broken.SENDABLE if reason != "empty"}
    files |= {f"unsound-{reason}": broken.unsound(maker, reason) for reason in broken.UNSOUND}
    return files


def main() -> None:
    for name, files in {"solana_tx": solana_tx()}.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        print(f"{folder}: {len(files)} files, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()
