"""Requests of Cluster Serving's own clients, taken from the Redis that these know: `cloister bridge`.

For the time in which programs move over. The bridge reads their streams, has each request answered by enclaves that it
has verified, and writes results where and as their clients look for them. What their clients send lies in that Redis in
clear, so bridge and Redis stand where the data's owner stands, and the seal begins at the bridge
(docs/decisions/0048-cluster-serving-bridge.md).

`entries` is what lies in a stream, `payloads` and `results` are their forms, `stream` is one of their streams with
what we keep beside it, `mesh` asks, `carrier` takes requests as room allows, and a `batch` of them is settled whole.
"""
