"""The recovery key: dealt to owners in shares, given back by them, and what is restored with it."""
