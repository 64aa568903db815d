"""What may be asked about our services by gRPC's reflection, for an operator's tools: descriptors, which are public.

Both versions of the protocol are served, which say the same under two names: tools of today ask for `v1` first.
https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.reflection import aio
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from cloister.api.oip import inference_pb2

REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD: Final = "ServerReflectionInfo"


class Pools:
    """Descriptor pools as one: the first that knows a name answers. The Open Inference Protocol has a pool of its own.

    Args:
        pools: In order.
    """

    def __init__(self, *pools: descriptor_pool.DescriptorPool) -> None:
        self._pools = pools

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Whatever the servicer asks of a pool; raises KeyError where none knows."""

        def find(*arguments: Any) -> Any:
            for pool in self._pools[:-1]:
                try:
                    return getattr(pool, name)(*arguments)
                except KeyError:
                    continue
            return getattr(self._pools[-1], name)(*arguments)

        return find


def reflection_handlers(services: Sequence[str]) -> Sequence[grpc.GenericRpcHandler]:
    """What a server is given to serve reflection.

    Args:
        services: Those that it lists; any other of ours is described to who knows its name.
    """
    pools = Pools(descriptor_pool.Default(), inference_pb2.DESCRIPTOR.pool)
    servicer = aio.ReflectionServicer(service_names=services, pool=pools)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=ServerReflectionRequest.FromString,
        response_serializer=ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {METHOD: method}) for name in REFLECTION]
