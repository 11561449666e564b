"""Judging responses: what a verifier is, how it is loaded, tested, measured, and what its files are made of."""
