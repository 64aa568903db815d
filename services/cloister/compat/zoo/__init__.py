"""`InputQueue` and `OutputQueue` for programs written for Analytics Zoo (BigDL) Cluster Serving.

    from cloister.compat.zoo import InputQueue, OutputQueue

    InputQueue("127.0.0.1", 8440, "breast-cancer", trust="trust.json", identity="identities/client/main") \
        .enqueue("patient-7", measurements=records)
    OutputQueue("127.0.0.1", 8440, "breast-cancer").query("patient-7")

The calls and their arguments are those of the Python client there. What differs: every request is sealed to enclaves
that this process has verified; every failure is an error of `cloister.errors`, where "[]", "NaN" or a printed line
stood for one; and there is no Redis: `enqueue` asks at once, and this process holds the answers, so many of them and
for so long. docs/guides/from-cluster-serving.md says all of it.
"""

from cloister.compat.zoo.fitting import Result
from cloister.compat.zoo.queues import InputQueue, OutputQueue

__all__ = ["InputQueue", "OutputQueue", "Result"]
