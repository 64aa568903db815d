"""Pod Security Standards, "restricted", as the API server's admission holds a pod against them (v1.31).

One rule for each control of the standard, in its order; those of "baseline" first. What a rule finds is named by the
control and the container, as `hostPath volumes: aesmd`.
https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Spec = Mapping[str, Any]

_KINDS: Final = ("initContainers", "containers", "ephemeralContainers")
_VOLUMES: Final = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
_PROFILES: Final = frozenset(("RuntimeDefault", "Localhost"))
_SELINUX_TYPES: Final = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
_SYSCTLS: Final = frozenset(
    (
        "kernel.shm_rmid_forced",
        *(f"net.ipv4.{name}" for name in ("ip_local_port_range", "ip_unprivileged_port_start", "tcp_syncookies")),
        *(f"net.ipv4.{name}" for name in ("ping_group_range", "ip_local_reserved_ports", "tcp_keepalive_time")),
        *(f"net.ipv4.tcp_{name}" for name in ("fin_timeout", "keepalive_intvl", "keepalive_probes")),
    )
)


def objections(pod: Spec) -> set[str]:
    """What admission to a "restricted" namespace would say of a pod's specification; empty where it is let in."""
    found = {f"{control}: {what}" for control, rule in POD_RULES.items() for what in rule(pod)}
    for container in containers(pod):
        for control, rule in CONTAINER_RULES.items():
            if rule(container, pod.get("securityContext", {})):
                found.add(f"{control}: {container['name']}")
    return found


def containers(pod: Spec) -> Iterator[Spec]:
    """All containers of a pod."""
    for kind in _KINDS:
        yield from pod.get(kind, ())


def _host_namespaces(pod: Spec) -> Iterator[str]:
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))


def _host_paths(pod: Spec) -> Iterator[str]:
    yield from (volume["name"] for volume in pod.get("volumes", ()) if "hostPath" in volume)


def _volume_types(pod: Spec) -> Iterator[str]:
    for volume in pod.get("volumes", ()):
        if volume.keys() - {"name"} - _VOLUMES:
            yield volume["name"]


def _sysctls(pod: Spec) -> Iterator[str]:
    for each in pod.get("securityContext", {}).get("sysctls", ()):
        if each["name"] not in _SYSCTLS:
            yield each["name"]


POD_RULES: Final[Mapping[str, Callable[[Spec], Iterator[str]]]] = {
    "host namespaces": _host_namespaces,
    "hostPath volumes": _host_paths,
    "sysctls": _sysctls,
    "volume types": _volume_types,
}


def _own(container: Spec) -> Spec:
    context: Spec = container.get("securityContext", {})
    return context


def _either(container: Spec, pod: Spec, name: str) -> Any:
    """A field of the container's context or, where it has none, of the pod's."""
    return _own(container).get(name, pod.get(name))


def _added(container: Spec, pod: Spec) -> bool:
    return bool(set(_own(container).get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"})


def _selinux(container: Spec, pod: Spec) -> bool:
    options = _either(container, pod, "seLinuxOptions") or {}
    return options.get("type", "") not in _SELINUX_TYPES or bool(options.get("user") or options.get("role"))


def _apparmor(container: Spec, pod: Spec) -> bool:
    profile = _either(container, pod, "appArmorProfile")
    return profile is not None and profile.get("type") not in _PROFILES


CONTAINER_RULES: Final[Mapping[str, Callable[[Spec, Spec], bool]]] = {
    "HostProcess": lambda each, pod: bool((_either(each, pod, "windowsOptions") or {}).get("hostProcess")),
    "privileged": lambda each, pod: bool(_own(each).get("privileged")),
    "capabilities added": _added,
    "host ports": lambda each, pod: any(port.get("hostPort") for port in each.get("ports", ())),
    "AppArmor": _apparmor,
    "SELinux": _selinux,
    "/proc mount type": lambda each, pod: _own(each).get("procMount", "Default") != "Default",
    "seccomp": lambda each, pod: (_either(each, pod, "seccompProfile") or {}).get("type") not in _PROFILES,
    "privilege escalation": lambda each, pod: _own(each).get("allowPrivilegeEscalation") is not False,
    "running as non-root": lambda each, pod: _either(each, pod, "runAsNonRoot") is not True,
    "running as user 0": lambda each, pod: 0 in (_own(each).get("runAsUser"), pod.get("runAsUser")),
    "capabilities dropped": lambda each, pod: "ALL" not in _own(each).get("capabilities", {}).get("drop", ()),
}
