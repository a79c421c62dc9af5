"""Regions: what this api exports to the apis of other regions, and answers over the ledgers of several regions."""
