"""What may be asked about our services by gRPC's reflection, for an operator's tools: descriptors, which are public.

Both versions of the protocol are served, which say the same under two names: tools of today ask for `v1` first.
https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from cloister.api.oip import inference_pb2
from cloister.api.v1 import gateway_pb2

REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD: Final = "ServerReflectionInfo"
_DESCRIBED: Final = (inference_pb2, gateway_pb2, health_pb2, reflection_pb2)


def reflection_handlers(services: Sequence[str]) -> Sequence[grpc.GenericRpcHandler]:
    """What a server is given to serve reflection.

    Args:
        services: Those that it lists. The gateway's other one, the inference protocol, is described to who names it.
    """
    servicer = aio.ReflectionServicer(services, pool=pool_of(module.DESCRIPTOR for module in _DESCRIBED))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {METHOD: method}) for name in REFLECTION]


def pool_of(files: Iterable[FileDescriptor]) -> DescriptorPool:
    """One pool of these files and all that they import, whichever pools they live in, and of nothing else."""
    pool = DescriptorPool()
    known: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name not in known:
            known.add(file.name)
            for dependency in file.dependencies:
                add(dependency)
            pool.AddSerializedFile(file.serialized_pb)

    for file in files:
        add(file)
    return pool
