"""Jobs: sealed requests that wait in Redis until a worker has answered them (docs/decisions/0044-jobs.md).

Gateways take jobs in and hand answers out (`servicer`); a process of the gateway of its own gives them to workers
(`runner`), over the same links and within the same credits as requests that somebody waits for. What is in Redis is
ciphertext and routing, each record under a MAC that Redis cannot make (`store`).
"""
