"""Batch files: the rows of a file become jobs, and their answers another file (docs/decisions/0051-batch-files.md).

A file is read row by row (`sources`), its cells become tensors that lose nothing on the way (`fitting`), so many rows
are a job (`plan`), jobs are asked (`asking`) and everything that was promised or learnt is in a journal (`journal`)
before anything rests on it, so that a command that was killed goes on where it was. The output is written once, whole,
from the journal (`writing`).
"""
