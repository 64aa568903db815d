"""The simulation agrees with what is known in closed form, loses no call, and does the same again."""

import math
from dataclasses import asdict, replace

import pytest
from benchmarks.report.samples import Sample
from benchmarks.scale.calibrate import fitted, kept, stretch, stretched
from benchmarks.scale.check import QUICK, compared
from benchmarks.scale.grid import Came, Cell
from benchmarks.scale.kernel import Kernel
from benchmarks.scale.limits import demand, gateways_for
from benchmarks.scale.links import choosing_s
from benchmarks.scale.model import Simulation, capacity_per_s, simulated
from benchmarks.scale.outbox import Outbox
from benchmarks.scale.plan import Costs, Plan
from benchmarks.scale.shown import grid_table, hosts_table, jobs_table, waiting_table
from benchmarks.scale.study import Case, apart, image_case, points, workers_per_s
from benchmarks.scale.trust import largest, reaches

SERVICE_S = 0.1
BARE = Costs(gateway_call_s=0.0, worker_frame_s=SERVICE_S, worker_call_s=0.0, jitter=1.0)
"""Nothing costs anything but the evaluation, which takes exponentially long: an M/M/c queue."""
MESH = Costs(gateway_call_s=400e-6, worker_frame_s=300e-6, worker_call_s=80e-6, client_call_s=200e-6, hop_s=100e-6)


def erlang_c(servers, offered):
    """The share of arrivals that wait in an M/M/c queue (A. K. Erlang, 1917)."""
    waiting = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return waiting / (sum(offered**k / math.factorial(k) for k in range(servers)) + waiting)


def queued(servers, load):
    """An M/M/c queue: one gateway that costs nothing, one slot for each worker, and a queue without end."""
    plan = Plan(per_s=load * servers / SERVICE_S, workers=servers, slots=1, batch=1, queue_limit=10**9)
    return simulated(BARE, plan, calls=15_000), plan


def longer_than(took_s, servers, load):
    """The share of calls that take longer than so much, from arrival to answer, in an M/M/c queue."""
    rate, offered = 1 / SERVICE_S, load * servers
    drain = (servers - offered) * rate
    waiting = erlang_c(servers, offered)
    if math.isclose(rate, drain):
        return (1 + waiting * rate * took_s) * math.exp(-rate * took_s)
    waited = waiting * rate / (drain - rate) * (1 - math.exp(-(drain - rate) * took_s))
    return math.exp(-rate * took_s) * (1 + waited)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 0.7)])
def test_waiting_is_that_of_erlang(servers, load):
    found, plan = queued(servers, load)
    assert longer_than(found.p50_s, servers, load) == pytest.approx(0.5, rel=0.05)
    assert longer_than(found.p99_s, servers, load) == pytest.approx(0.01, rel=0.35)
    assert found.per_s == pytest.approx(plan.per_s, rel=0.03)
    assert found.worker_busy == pytest.approx(load, rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.9, 3.0])
@pytest.mark.parametrize("cores", [2, math.inf])
def test_no_call_is_lost_or_counted_twice(load, cores):
    plan = Plan(gateways=3, workers=4, slots=6, cores=cores, queue_limit=20)
    plan = replace(plan, per_s=load * capacity_per_s(MESH, plan))
    simulation = Simulation(MESH, plan, seed=2)
    found = simulation.run(0.4, 0.1)
    assert found.arrived == found.answered + found.refused + found.under_way
    assert 0 <= simulation.held() <= found.under_way
    if math.isinf(cores):  # else the load itself is what waits for a core
        assert (found.refused > 0) == (load > 1)
    for used in simulation._used:
        assert all(0 < calls <= plan.share for calls in used.values())


def test_when_nobody_comes_any_more_everything_is_answered():
    plan = Plan(gateways=2, workers=3, per_s=2000)
    simulation = Simulation(MESH, plan, seed=3)
    simulation._come = lambda: None
    for _ in range(500):
        simulation._arrive()
    found = simulation.run(60.0, 0.0)
    assert (found.arrived, found.answered, found.under_way) == (500, 500, 0)
    assert simulation.held() == 0


def test_nor_is_a_call_lost_that_waits_for_its_frame():
    simulation = Simulation(MESH, Plan(gateways=2, workers=3, per_s=2000, paced=True), seed=3)
    simulation._come = lambda: None
    for _ in range(500):
        simulation._arrive()
    found = simulation.run(60.0, 0.0)
    assert (found.answered, found.under_way, simulation.held()) == (500, 0, 0)


def test_a_seed_gives_the_same_again_and_another_one_something_else():
    plan = Plan(per_s=1500, gateways=2, workers=2)
    assert simulated(MESH, plan, calls=3000, seed=5) == simulated(MESH, plan, calls=3000, seed=5)
    assert simulated(MESH, plan, calls=3000, seed=5) != simulated(MESH, plan, calls=3000, seed=6)


def test_a_closed_loop_reaches_what_the_narrowest_part_can():
    plan = Plan(in_flight=64, gateways=1, workers=4)
    assert simulated(MESH, plan, calls=4000).per_s == pytest.approx(1 / MESH.gateway_call_s, rel=0.05)
    shared = replace(plan, cores=1)
    assert simulated(MESH, shared, calls=4000).per_s <= capacity_per_s(MESH, shared)


def test_calls_that_gather_share_a_frame():
    alone = Plan(in_flight=1)
    together = Plan(in_flight=16)
    costs = replace(MESH, gateway_call_s=1e-6, client_call_s=0.0, hop_s=0.0)
    one, many = (simulated(costs, plan, calls=2000) for plan in (alone, together))
    assert one.per_s < 1 / (costs.worker_frame_s + costs.worker_call_s) < many.per_s


def test_frames_of_a_quick_model_wait_for_company_and_are_of_one_gateway():
    costs = replace(MESH, client_call_s=20e-6, jitter=0.0)
    plan = Plan(in_flight=32, slots=16, calls_per_slot=8, paced=True)
    one, two = (simulated(costs, replace(plan, gateways=gateways), calls=4000) for gateways in (1, 2))
    at_once = simulated(costs, replace(plan, paced=False), calls=4000)
    assert at_once.calls_per_frame < one.calls_per_frame
    assert two.calls_per_frame < one.calls_per_frame * 1.5
    assert one.worker_s == pytest.approx(costs.worker_call_s + costs.worker_frame_s / one.calls_per_frame, rel=0.05)


def test_a_call_that_is_alone_waits_for_no_company():
    alone, paced = (simulated(replace(MESH, jitter=0.0), Plan(in_flight=1, paced=each)) for each in (False, True))
    assert paced.p99_s == pytest.approx(alone.p99_s)


def test_a_frame_leaves_full_or_when_nobody_comes_any_more():
    kernel, left = Kernel(), []
    outbox = Outbox(kernel, left.append)
    for _ in range(100):  # they come fast
        outbox.put((0, 0.0), 2)
    kernel.run(1.0)
    assert sum(map(len, left)) == 100
    kernel.run(1.0 + 1e-9)
    for number in range(3):
        outbox.put((0, float(number)), 2 + number)
    assert [len(frame) for frame in left][-1] == 1  # they do not come fast any more: the first is not held up
    outbox.answered(left[-1])
    kernel.run(3.0)
    assert sum(map(len, left)) == 103


def test_a_slot_holds_several_calls_of_a_quick_model():
    assert Plan(slots=16, gateways=4).share == 4
    assert Plan(slots=16, gateways=4, calls_per_slot=8).share == 32
    assert Plan(slots=16, gateways=40, calls_per_slot=8).share == 8


def test_what_was_computed_is_told_of_each_answer():
    found = simulated(replace(MESH, jitter=0.0), Plan(in_flight=1), calls=2000)
    assert found.gateway_s == pytest.approx(MESH.gateway_call_s, rel=0.01)
    assert found.worker_s == pytest.approx(MESH.worker_frame_s + MESH.worker_call_s, rel=0.01)
    assert found.calls_per_frame == 1.0


def test_gateways_that_all_take_the_first_of_equal_workers_wait_for_each_other():
    plan = Plan(per_s=600, gateways=16, workers=16, slots=16, batch=1)
    costs = Costs(gateway_call_s=1e-4, worker_frame_s=0.01, worker_call_s=0.0)
    by_chance = simulated(costs, plan, calls=3000)
    always_first = simulated(costs, replace(plan, tie="first"), calls=3000)
    assert always_first.p99_s > 1.5 * by_chance.p99_s


async def test_choosing_a_worker_is_timed_with_the_dispatcher_as_it_is_now():
    assert 0 < await choosing_s(3) < 0.1


def test_events_happen_in_their_order():
    kernel, happened = Kernel(), []
    for name, delay_s in (("second", 2.0), ("first", 1.0), ("third", 2.0), ("never", 9.0)):
        kernel.after(delay_s, happened.append, name)
    kernel.run(5.0)
    assert happened == ["first", "second", "third"]
    assert (kernel.now_s, kernel.events) == (5.0, 3)


def turn(in_flight, per_s, p50_ms, gateway, worker, load):
    counted = {"system": "mesh", "carrier": "unary", "in_flight": in_flight, "p99_ms": 2 * p50_ms, "memory_bytes": {}}
    cpu_us = {"gateway": gateway, "worker-1": worker, "verifier": 0.0}
    return Sample(**counted, per_s=per_s, p50_ms=p50_ms, cpu_us=cpu_us, load_cpu_us=load)


def test_costs_are_found_again_in_what_they_would_have_been_measured_as():
    alone = turn(1, 500.0, 2.0, gateway=500.0, worker=380.0, load=300.0)
    full = turn(32, 1000.0, 30.0, gateway=400.0, worker=98.75, load=200.0)
    costs = fitted(alone, full, calls_per_frame=16.0)
    assert costs.worker_frame_s == pytest.approx(300e-6)
    assert costs.worker_call_s == pytest.approx(80e-6)
    assert (costs.gateway_call_s, costs.client_call_s) == pytest.approx((400e-6, 200e-6))
    assert costs.hop_s == pytest.approx((2000 - 1180) / 4 * 1e-6)


def test_a_machine_that_others_use_is_slower_and_one_of_our_own_is_not():
    assert stretch(1.5, cores=2) == pytest.approx(4.0)
    assert stretch(0.0, cores=2) == 1.0
    assert stretch(2.0, cores=2) < math.inf
    assert stretched(MESH, 2.0).worker_frame_s == 2 * MESH.worker_frame_s
    assert stretched(MESH, 2.0).hop_s == MESH.hop_s


def test_what_make_bench_keeps_is_read():
    samples = [asdict(turn(in_flight, 500.0, 2.0, 500.0, 380.0, 300.0)) for in_flight in (8, 1, 32)]
    alone, full = kept({"rounds": [[], samples]}, "unary")
    assert (alone.in_flight, full.in_flight) == (1, 32)


def test_a_mesh_asks_for_more_than_there_is_where_it_grows_too_large():
    small, large = demand(100, 4, slots=16), demand(10_000, 300, slots=16)
    assert (small.slots_short, small.watchers_short) == (False, False)
    assert (large.slots_short, large.watchers_short) == (True, True)
    assert large.links_mb == 100 * small.links_mb
    assert gateways_for(6900, 100e-6) == 1
    assert gateways_for(7100, 100e-6) == 2


def test_a_mesh_is_believed_up_to_where_its_first_part_is():
    images = image_case(apart(MESH))
    tiny = Case(name="tiny", costs=apart(MESH), served=QUICK)
    known = reaches(gateways=2, slots=16)
    workers, gateways, ends = largest(images, known)
    assert (gateways, ends.part) == (16, "a worker's slots")
    assert gateways_for(0.7 * workers_per_s(images, workers + 1), images.costs.gateway_call_s) == 17
    assert largest(tiny, known)[0] < workers
    few = [reach for reach in known if reach.of == "workers"]
    assert largest(images, few)[0] == min(reach.trusted for reach in few)
    assert all(reach.measured <= reach.trusted for reach in known)


def cell(workers, gateways, full):
    came = Came(sample=full, others_cores=0.5)
    return Cell(gateways=gateways, workers=workers, alone=None, full=came, half=came, jobs=came, calls_per_frame=8.0)


def test_what_a_size_was_said_to_cost_stands_beside_what_it_cost():
    one = turn(64, 1000.0, 30.0, gateway=400.0, worker=120.0, load=200.0)
    one = replace(one, cpu_us={"gateway": 400.0, "worker": 120.0, "redis": 100.0, "jobs process": 90.0, "others": 1.0})
    measured = cell(2, 1, one)
    full, half = compared(measured, MESH)
    assert full.by_cpu_per_s == pytest.approx(1e6 / 400)
    assert full.said.gateway_us == pytest.approx(1e6 * MESH.gateway_call_s, rel=0.05)
    assert half.said.per_s == pytest.approx(500.0, rel=0.05)
    assert half.said.worker_us > full.said.worker_us
    for shown in (grid_table([full, half]), waiting_table([full, half]), jobs_table([measured]), hosts_table(measured)):
        assert len({len(shown.headings), *map(len, shown.rows)}) == 1
        assert shown.markdown().count("\n|") == 2 + len(shown.rows)
        assert shown.rich().row_count == len(shown.rows)


def test_the_study_stays_within_meshes_that_could_be():
    case = image_case(apart(MESH))
    found = points(case, loads=(0.5,), sizes=(10, 100))
    assert [point.plan.workers for point in found] == [10, 100]
    assert all(point.outcome.per_s == pytest.approx(point.plan.per_s, rel=0.1) for point in found)
    assert not points(case, loads=(0.5,), sizes=(10**7,))
