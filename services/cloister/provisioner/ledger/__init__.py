"""What is held, and the log of what was done, in one file: no change without its line, no row that none vouches for."""
