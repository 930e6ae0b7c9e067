"""Afterburner: moves Solana transactions between a trading host and the network."""

__version__ = "0.1.0"
