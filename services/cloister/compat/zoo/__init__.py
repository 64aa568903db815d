"""`InputQueue` and `OutputQueue` for programs written for Analytics Zoo (BigDL) Cluster Serving.

    from cloister.compat.zoo import InputQueue, OutputQueue

    InputQueue("127.0.0.1", 8440, "breast-cancer", trust="trust.json", identity="identities/client/main") \
        .enqueue("patient-7", measurements=records)
    OutputQueue("127.0.0.1", 8440, "breast-cancer").query("patient-7")

The calls and their arguments are those of the Python client there. What differs: every request is sealed to enclaves
that this process has verified; every failure is an error of `cloister.errors`, where "[]", "NaN" or a printed line
stood for one; and Redis is the mesh's own, if it has one: then `enqueue` makes a job that outlives everybody, and a
folder of this user has what opens its answer. Else this process asks at once, and holds the answers.
docs/guides/from-cluster-serving.md says all of it.
"""

from cloister.compat.zoo.fitting import Result
from cloister.compat.zoo.input_queue import InputQueue
from cloister.compat.zoo.output_queue import OutputQueue

__all__ = ["InputQueue", "OutputQueue", "Result"]
